/** The dump's worker. */
import { expose } from "comlink";
import { DumpWorker } from "./dump-worker.js";

expose(new DumpWorker());
