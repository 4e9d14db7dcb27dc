/** Messages to and from the runner: lines of JSON out, plain lines in. */

import { writeFileSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

/** @type {AsyncIterator<string> | undefined} */
let lines;

/**
 * Resolves to the next line, or to `undefined` at the end of the input.
 *
 * @returns {Promise<string | undefined>}
 */
export async function receive() {
  lines ??= createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  return (await lines.next()).value;
}

/** Sends "ready", receives the time of the start, and sleeps until then. */
export async function startTogether() {
  send("ready");
  await sleep(Math.max(0, Number(await receive()) - Date.now()));
}

/**
 * Writes a line synchronously, because the thread may block after this.
 *
 * @param {unknown} value
 */
export function send(value) {
  writeFileSync(1, `${JSON.stringify(value)}\n`);
}
