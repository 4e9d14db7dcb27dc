/** On what the figures were taken. */

import { readFileSync, statfsSync } from "node:fs";
import { arch, cpus, loadavg, release, type } from "node:os";

/** What the machine was busy with before the benchmark was. */
const load = loadavg()[0];

/**
 * @param contenders Who takes part.
 * @param folder Where the lock files are.
 */
export function machine(contenders, folder) {
  const runtimes = contenders.flatMap((contender) => contender.runtimes);
  return {
    hardware: `${cpus().length} × ${cpus()[0]?.model.trim()}`,
    system: `${type()} ${release()} ${arch()}`,
    fileSystem: fileSystem(folder),
    load: load.toFixed(1),
    runtimes: [...new Set(runtimes)],
    date: new Date().toISOString().slice(0, 10),
  };
}

/** The lines above all tables. */
export function heading(
  { hardware, system, fileSystem, load, runtimes, date },
) {
  return [
    `${date}, ${hardware}, ${system}, lock files on ${fileSystem}, ` +
    `load ${load} before`,
    ...runtimes.length > 0 ? [runtimes.join(", ")] : [],
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
