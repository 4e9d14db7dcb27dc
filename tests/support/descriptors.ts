/** Counts the file descriptors and inotify watches of processes. */

import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { hasCapability } from "./capabilities.ts";
import { sortedNames } from "./temp_dir.ts";

/** The time limit of {@linkcode waitForDescriptors}. */
const MAX_WAIT_MS = 10_000;

/** The number of descriptors to look at if there is no `/proc`. */
const MAX_DESCRIPTORS = 512;

/** Counts the descriptors that a process has open on files below a path. */
export function openDescriptors(
  below: string,
  pid: number = process.pid,
): number {
  if (process.platform !== "linux") return openFiles(below);
  return descriptorTargets(pid).filter((target) => target.startsWith(below))
    .length;
}

/**
 * Waits until this process has `count` descriptors open below a path. When a
 * wait ends while its file is being opened, the close follows a moment later.
 *
 * @throws {Error} If the count differs after 10 seconds.
 */
export async function waitForDescriptors(
  below: string,
  count: number,
): Promise<void> {
  const end = performance.now() + MAX_WAIT_MS;
  while (openDescriptors(below) !== count) {
    if (performance.now() > end) {
      const open = openDescriptors(below);
      throw new Error(`${open} descriptors are open, not ${count}`);
    }
    await delay(5);
  }
}

/** Counts the descriptors of this process that name files below a path. */
function openFiles(below: string): number {
  const id = ({ dev, ino }: fs.BigIntStats) => `${dev}:${ino}`;
  const isDirectory = fs.lstatSync(below, { throwIfNoEntry: false })
    ?.isDirectory();
  const directory = isDirectory ? below : dirname(below);
  const files = sortedNames(directory).map((name) => join(directory, name))
    .filter((name) => name.startsWith(below))
    .map((name) => id(fs.lstatSync(name, { bigint: true })));
  const open = Array.from({ length: MAX_DESCRIPTORS }, (_, fd) => {
    try {
      return id(fs.fstatSync(fd, { bigint: true }));
    } catch {
      return "";
    }
  });
  return open.filter((file) => files.includes(file)).length;
}

/** Returns the paths that the descriptors of a process name. */
export function descriptorTargets(pid: number): string[] {
  // ls(1) reads /proc, because Deno requires all permissions for it. ls(1)
  // fails if a descriptor closes meanwhile, but still lists the others.
  const { stdout } = spawnSync("ls", ["-l", `/proc/${pid}/fd`], {
    encoding: "utf8",
  });
  return stdout.split("\n").flatMap((line) => line.split(" -> ")[1] ?? []);
}

/**
 * Counts the files that this process watches by inotify(7): for a close, or for
 * the events of another mask, in hexadecimal.
 */
export function countWatches(mask = "18"): number {
  if (!hasCapability("/proc")) return 0;
  const { stdout } = spawnSync("sh", [
    "-c",
    `cat /proc/${process.pid}/fdinfo/*`,
  ], { encoding: "utf8" });
  const watch = new RegExp(`^inotify wd:.* mask:${mask} `, "gm");
  return [...stdout.matchAll(watch)].length;
}
