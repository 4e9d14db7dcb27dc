/** The machine that the figures come from. */

import { readFileSync, statfsSync } from "node:fs";
import { arch, cpus, loadavg, release, type } from "node:os";
import type { Contender } from "../types.ts";

/** The load of the machine before the benchmark. */
const load = loadavg()[0] ?? NaN;

export interface Machine {
  readonly hardware: string;
  readonly system: string;
  readonly fileSystem: string;
  readonly load: string;
  readonly runtimes: readonly string[];
  readonly date: string;
}

/**
 * Describes this machine.
 *
 * @param contenders Whose runtimes to name.
 * @param folder Where the lock files are.
 */
export function describeMachine(
  contenders: readonly Pick<Contender, "runtimes">[],
  folder: string,
): Machine {
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

/** Returns the lines above all tables. */
export function heading(
  { hardware, system, fileSystem, load, runtimes, date }: Machine,
): string[] {
  return [
    `${date}, ${hardware}, ${system}, lock files on ${fileSystem}, ` +
    `load ${load} before`,
    ...runtimes.length > 0 ? [runtimes.join(", ")] : [],
  ];
}

/** Returns the type of the file system that contains a folder. */
function fileSystem(folder: string): string {
  try {
    const type = mountedType(folder);
    if (type !== undefined) return type;
  } catch {
    // Not Linux.
  }
  return `file system type 0x${statfsSync(folder).type.toString(16)}`;
}

/** Of all mounts on the way to the folder, the deepest and latest applies. */
function mountedType(folder: string): string | undefined {
  let deepest = "";
  let found: string | undefined;
  for (const line of readFileSync("/proc/self/mounts", "utf8").split("\n")) {
    const [, point = "", type] = line.split(" ");
    const isAbove = point !== "" &&
      `${folder}/`.startsWith(point.replace(/\/*$/, "/"));
    if (isAbove && point.length >= deepest.length) {
      deepest = point;
      found = type;
    }
  }
  return found;
}
