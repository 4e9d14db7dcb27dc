/** A program that plays both roles, each in a worker. */

import process from "node:process";
import { Worker } from "node:worker_threads";

for (const role of ["hold", "wait"]) {
  const env = { ...process.env, CONSUME_ROLE: role };
  new Worker(new URL("./program.mjs", import.meta.url), { env });
}
