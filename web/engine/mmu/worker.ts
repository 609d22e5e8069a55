/** The MMU view's worker. */
import { expose } from "comlink";
import { MmuSession } from "./session.js";

expose(new MmuSession());
