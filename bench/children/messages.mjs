/** Lines to and from the benchmark: JSON out, plain words in. */

import { writeFileSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

let lines;

/** The next line, or `undefined` at the end of the input. */
export async function hear() {
  lines ??= createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  return (await lines.next()).value;
}

/** Says that this process is ready, and waits for the moment it is told. */
export async function startTogether() {
  say("ready");
  await sleep(Math.max(0, Number(await hear()) - Date.now()));
}

/** Is through before the thread may block. */
export function say(value) {
  writeFileSync(1, `${JSON.stringify(value)}\n`);
}
