/** The playground's worker. */
import { expose } from "comlink";
import { PlaySession } from "./session.js";

expose(new PlaySession());
