/** What a run leaves behind. */

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { must, runtimes } from "../scripts/setup.mjs";
import { FIGURES } from "./figures.mjs";

/** Everything, on one line. */
export function writeJson(file, run) {
  writeFileSync(file, `${JSON.stringify(run)}\n`);
}

/**
 * `results.json`, without the single samples, and the pictures. One that this
 * run has no figures for is removed: the folder never mixes two runs.
 */
export function writeFigures(folder, run) {
  const results = join(folder, "results.json");
  writeFileSync(results, JSON.stringify(run, abridged, 2));
  const written = [results];
  for (const [name, picture] of Object.entries(FIGURES)) {
    const file = join(folder, `${name}.svg`);
    const outcome = run.scenarios[name];
    rmSync(file, { force: true });
    if (!outcome || outcome.results.length === 0) continue;
    writeFileSync(file, picture(outcome, run.machine));
    written.push(file);
  }
  format(written);
}

function abridged(key, value) {
  if (key === "samples") return undefined;
  return typeof value === "number" && !Number.isInteger(value)
    ? Number(value.toPrecision(4))
    : value;
}

/** As `npm run check` wants everything in the repository. */
function format(files) {
  const deno = runtimes().find(({ name }) => name === "deno");
  if (deno) must(deno.command[0], ["fmt", "--quiet", ...files]);
}
