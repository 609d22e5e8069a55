/** The dump's worker. */
import { expose } from "comlink";
import { sendTasks } from "../task-transfer.js";
import { DumpWorker } from "./dump-worker.js";

sendTasks();
expose(new DumpWorker());
