/** What the system says about the machine and about a path. */

import * as fs from "node:fs";
import { dirname } from "node:path";
import process from "node:process";
import { callsThrough, platform } from "../../../ffi/mod.ts";
import { thisHost } from "../../../ffi/runtime/host.ts";
import { lockHolders } from "../../core/holders.ts";
import { findFileSystem } from "./file_system.ts";
import type { MachineFacts, PathFacts } from "./protocol.ts";
import type { FileReport, InotifyReport } from "./types.ts";

/** The bit of the capability: linux/capability.h. */
const CAP_FOWNER = 1n << 3n;

/** Describes the machine. */
export function machineFacts(): MachineFacts {
  const { runtime: name } = thisHost();
  const system = `${process.platform} ${process.arch}`;
  return {
    runtime: { name, system, calls: callsThrough() },
    inotify: inotifyLimits(),
  };
}

/** A user has limits in each user namespace, too: see namespaces(7). */
function inotifyLimits(): InotifyReport | null {
  const read = (name: string) =>
    Number(platform().readProcFile?.(`/proc/sys/${name}`) ?? NaN);
  const least = (limit: number, inNamespace: number) =>
    inNamespace < limit ? inNamespace : limit;
  const maxInstances = least(
    read("fs/inotify/max_user_instances"),
    read("user/max_inotify_instances"),
  );
  const maxWatches = least(
    read("fs/inotify/max_user_watches"),
    read("user/max_inotify_watches"),
  );
  return Number.isNaN(maxInstances + maxWatches)
    ? null
    : { maxInstances, maxWatches };
}

/** Describes a path. Neither changes nor locks it. */
export async function pathFacts(path: string): Promise<PathFacts> {
  const stats = fs.statSync(path);
  const realPath = fs.realpathSync(path);
  const type = stats.isDirectory()
    ? "directory"
    : stats.isFile()
    ? "file"
    : "other";
  const parent = type === "directory" ? realPath : dirname(realPath);
  const mountinfo = platform().readProcFile?.("/proc/self/mountinfo") ?? "";
  return {
    realPath,
    type,
    directory: parent,
    fileSystem: findFileSystem(mountinfo, realPath),
    local: platform().isLocalDirectory(parent),
    mode: (stats.mode & 0o7777).toString(8).padStart(4, "0"),
    owner: process.platform === "win32" ? null : stats.uid,
    user: ownUser(),
    file: type === "file" ? await fileFacts(realPath, mountinfo) : null,
  };
}

/** Returns `null` if Deno lacks `--allow-sys`. */
function ownUser(): number | null {
  try {
    return process.geteuid?.() ?? null;
  } catch {
    return null;
  }
}

async function fileFacts(
  realPath: string,
  mountinfo: string,
): Promise<FileReport> {
  const writable = isAccessible(realPath);
  const isMountPoint =
    findFileSystem(mountinfo, realPath)?.mountPoint === realPath;
  const replaceable = !isMountPoint && mayReplace(realPath);
  const updates = replaceable ? "replace" : writable ? "in place" : null;
  const holders = (await lockHolders(realPath)).map(({ pid }) => pid);
  return { writable, replaceable, updates, holders: [...new Set(holders)] };
}

function isAccessible(path: string): boolean {
  try {
    fs.accessSync(path, fs.constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** In a sticky directory, only the owners may replace a file: see inode(7). */
function mayReplace(realPath: string): boolean {
  const parent = dirname(realPath);
  if (!isAccessible(parent)) return false;
  const { mode, uid } = fs.statSync(parent);
  if ((mode & 0o1000) === 0) return true;
  const user = ownUser();
  return user === null || user === uid || user === fs.statSync(realPath).uid ||
    mayIgnoreOwners(user);
}

/** Whether the process has CAP_FOWNER: see capabilities(7). */
function mayIgnoreOwners(user: number): boolean {
  const status = platform().readProcFile?.("/proc/self/status") ?? "";
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  if (effective === undefined) return user === 0;
  return (BigInt(`0x${effective}`) & CAP_FOWNER) !== 0n;
}
