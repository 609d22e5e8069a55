/** The MMU view's worker. */
import { expose } from "comlink";
import { sendTasks } from "../task-transfer.js";
import { MmuSession } from "./session.js";

sendTasks();
expose(new MmuSession());
