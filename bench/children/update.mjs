/**
 * The child's side of the scenario of that name: from the moment it is told,
 * adds one to the number in a JSON file, without a pause, until the time is
 * over. A sample is a whole update.
 */

import { writeFileSync } from "node:fs";
import process from "node:process";
import { Samples } from "./samples.mjs";
import { startTogether } from "./talk.mjs";

export default async function update({ make }, path, milliseconds) {
  await loadEverything(make, `${path}.${process.pid}`);
  const change = make(path);
  const samples = new Samples();
  let count = 0;
  await startTogether();
  const last = performance.now() + Number(milliseconds);
  const addOneInTime = (text) => {
    // What is locked too late does not count, and leaves the file as it is.
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

/** Whatever is loaded with the first update is loaded now. */
async function loadEverything(make, path) {
  writeFileSync(path, JSON.stringify({ number: 0 }));
  await make(path)(addOne);
}

function addOne(text) {
  const content = JSON.parse(text);
  content.number++;
  return JSON.stringify(content);
}
