/** The files that a run writes. */

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { must, runtimes } from "../../scripts/setup/mod.ts";
import { FIGURE_NAMES, figureOf } from "./figures.ts";
import type { RunResults } from "./figures.ts";

/** Writes everything, on one line. */
export function writeJson(file: string, run: object): void {
  writeFileSync(file, `${JSON.stringify(run)}\n`);
}

/**
 * Writes `results.json`, without the single samples, and the figures. Removes
 * figures of scenarios that this run did not measure, so that the folder does
 * not mix two runs.
 */
export function writeFigures(folder: string, run: RunResults): void {
  const results = join(folder, "results.json");
  writeFileSync(results, JSON.stringify(run, abridge, 2));
  formatFiles([results, ...drawFigures(folder, run)]);
}

/** Draws the figures of a run, and returns the paths of the files. */
function drawFigures(folder: string, run: RunResults): string[] {
  const written: string[] = [];
  for (const name of FIGURE_NAMES) {
    const file = join(folder, `${name}.svg`);
    rmSync(file, { force: true });
    const figure = figureOf(name, run);
    if (figure === undefined) continue;
    writeFileSync(file, figure);
    written.push(file);
  }
  return written;
}

function abridge(key: string, value: unknown): unknown {
  if (key === "samples") return undefined;
  return typeof value === "number" && !Number.isInteger(value)
    ? Number(value.toPrecision(4))
    : value;
}

/** Formats files as `npm run check` expects. */
function formatFiles(files: readonly string[]): void {
  const deno = runtimes().find(({ name }) => name === "deno");
  if (deno) must(deno.command[0], ["fmt", "--quiet", ...files]);
}
