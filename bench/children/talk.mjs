/** Lines to and from the benchmark: JSON out, plain words in. */

import { writeFileSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";

let lines;

/** The next line, or `undefined` at the end of the input. */
export async function hear() {
  lines ??= createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  return (await lines.next()).value;
}

/** Is through before the thread may block. */
export function say(value) {
  writeFileSync(1, `${JSON.stringify(value)}\n`);
}
