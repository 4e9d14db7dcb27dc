/** On what the figures were taken. */

import { readFileSync, statfsSync } from "node:fs";
import { arch, cpus, loadavg, release, type } from "node:os";
import { MEASURED, WARM_UP } from "./scenarios/uncontended.mjs";

/** What the machine was busy with before the benchmark was. */
const load = loadavg()[0];

/** The lines above the table. */
export function heading(results, folder, rounds) {
  const runtimes = [...new Set(results.map(({ runtime }) => runtime))];
  const clocks = results.map(({ clock }) => Math.round(clock * 1000));
  return [
    `${cpus().length} × ${cpus()[0]?.model.trim()}, ${type()} ${release()} ` +
    `${arch()}, lock files on ${fileSystem(folder)}, ` +
    `load ${load.toFixed(1)} before`,
    ...runtimes.length > 0 ? [runtimes.join(", ")] : [],
    `${new Date().toISOString().slice(0, 10)}; rounds: ${rounds}, in ` +
    `each every contender a process of its own with ${WARM_UP} ms to warm up and ` +
    `${MEASURED} ms measured; the clock's share of a sample is ` +
    `${Math.min(...clocks)} to ${Math.max(...clocks)} ns`,
  ];
}

/** The type of the file system that a folder is on. */
function fileSystem(folder) {
  try {
    return mounted(folder);
  } catch {
    return `file system type 0x${statfsSync(folder).type.toString(16)}`;
  }
}

/** Of all mounts on the way to the folder, the deepest and latest counts. */
function mounted(folder) {
  return readFileSync("/proc/self/mounts", "utf8").trim().split("\n")
    .map((line) => line.split(" "))
    .filter(([, point]) => `${folder}/`.startsWith(point.replace(/\/*$/, "/")))
    .reduce((best, mount) =>
      mount[1].length >= best[1].length ? mount : best
    )[2];
}
