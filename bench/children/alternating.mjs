/**
 * The child's side of comparing two checkouts without contention: measures like
 * `uncontended` when the runner asks, for as many milliseconds as it asks. So
 * two processes can take turns of milliseconds.
 */

import { receive, send } from "./messages.mjs";
import { Samples } from "./samples.mjs";
import { measure, measureSync } from "./uncontended.mjs";

/**
 * @param {import("./types.ts").LockContender} contender
 * @param {string} path
 * @param {string} warmUp In milliseconds.
 */
export default async function alternating({ isSync, make }, path, warmUp) {
  const locker = await make(path);
  const samples = new Samples();
  const run = isSync ? measureSync : measure;
  await run(locker, samples, Number(warmUp));
  send("ready");
  for (let command; (command = await receive()) !== undefined;) {
    samples.clear();
    await run(locker, samples, Number(command));
    send(samples.histogram());
  }
}
