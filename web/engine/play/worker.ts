/** The playground's worker. */
import { expose } from "comlink";
import { sendTasks } from "../task-transfer.js";
import { PlaySession } from "./session.js";

sendTasks();
expose(new PlaySession());
