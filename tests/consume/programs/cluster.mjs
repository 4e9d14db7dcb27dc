/** A program that plays both roles, each in a process of a cluster. */

import cluster from "node:cluster";
import process from "node:process";
import { play } from "./roles.mjs";

if (cluster.isPrimary) {
  for (const role of ["hold", "wait"]) cluster.fork({ CONSUME_ROLE: role });
} else {
  await play(process.env.CONSUME_ROLE, process.env.CONSUME_FOLDER);
  cluster.worker.disconnect();
}
