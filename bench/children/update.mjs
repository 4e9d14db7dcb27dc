/**
 * The child's side of the scenario `update`: from the start that all four
 * processes share, adds one to the number in a JSON file until the time is
 * over. A sample is a whole update.
 */

import { writeFileSync } from "node:fs";
import process from "node:process";
import { startTogether } from "./messages.mjs";
import { Samples } from "./samples.mjs";

/**
 * @param {import("./types.ts").UpdateContender} contender
 * @param {string} path
 * @param {string} milliseconds
 */
export default async function update({ make }, path, milliseconds) {
  await warmUp(make, `${path}.${process.pid}`);
  const change = make(path);
  const samples = new Samples();
  let count = 0;
  await startTogether();
  const last = performance.now() + Number(milliseconds);
  /** @param {string} text */
  const addOneInTime = (text) => {
    // A lock acquired too late does not count and leaves the file as it is.
    if (performance.now() >= last) return text;
    count++;
    return addOne(text);
  };
  let start;
  while ((start = performance.now()) < last && !samples.full) {
    await change(addOneInTime);
    samples.add(performance.now() - start);
  }
  return { count, samples: samples.histogram() };
}

/**
 * Loads now what the first update of a process loads.
 *
 * @param {import("./types.ts").UpdateContender["make"]} make
 * @param {string} path
 */
async function warmUp(make, path) {
  writeFileSync(path, JSON.stringify({ number: 0 }));
  await make(path)(addOne);
}

/** @param {string} text */
function addOne(text) {
  const content = JSON.parse(text);
  content.number++;
  return JSON.stringify(content);
}
