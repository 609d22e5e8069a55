#!/usr/bin/env node
/** The program `x86-paging`: runs its arguments and exits with what main.ts returns. */
import { main } from "./main.js";

process.exitCode = await main(process.argv.slice(2));
