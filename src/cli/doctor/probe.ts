/**
 * A probe: a process that locks files on command of the process that diagnoses.
 *
 * The probes remove the directory of the tests when their standard input ends.
 * It ends however the parent ends, also by `SIGKILL`. A terminal sends `SIGINT`
 * to all processes of the group. The probes ignore it, so that they can clean
 * up. P is the parent, Q and R are probes that were created in this order:
 *
 * - P.1 P dies, or has finished.
 * - Q.2 Q reads the end, and removes the files. Its command may still run.
 * - R.3 R creates a file, because its command has not ended.
 * - Q.4 Q fails to remove the directory, because it is not empty.
 * - R.5 R has finished its command, reads the end, and removes the rest.
 *
 * A probe removes the directory after its own commands have ended, so the last
 * one finds what the others have created.
 */

import * as fs from "node:fs";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { callsThrough, platform } from "../../../ffi/mod.ts";
import { errorCode } from "../../../ffi/types.ts";
import type { PlatformFile, Watch } from "../../../ffi/types.ts";
import { updateFile } from "../../atomic/update_file.ts";
import { AlreadyLocked } from "../../core/errors.ts";
import { lockHolders } from "../../core/holders.ts";
import type { LockedFile } from "../../file/locked_file.ts";
import { Lock } from "../../lock/lock.ts";
import { parseMode } from "../../options/open_mode.ts";
import { describeError } from "./describe_error.ts";
import { findFileSystem } from "./file_system.ts";
import { DIRECTORY_PREFIX } from "./protocol.ts";
import type {
  Commands,
  Contended,
  How,
  MachineFacts,
  PathFacts,
  Reply,
  Request,
} from "./protocol.ts";
import type { FileReport, InotifyReport, LockerName } from "./types.ts";
import { tryWrites } from "./writes.ts";

/** How long a process that contends stays inside: longer than clocks differ. */
const SECTION_MS = 1;

/** Of this many acquisitions of a process that contends, one is shared. */
const SHARED_EVERY = 4;

/** How long a process that contends waits, beyond the duration. */
const CONTEST_GRACE_MS = 5000;

/** The bit of the capability: linux/capability.h. */
const CAP_FOWNER = 1n << 3n;

/** How often a probe tries to remove the directory. */
const MAX_REMOVALS = 20;

/** The pause between two of these attempts. */
const REMOVAL_PAUSE_MS = 25;

/** The signals that a terminal sends to every process. */
const IGNORED = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** The locks that this process holds, by path. */
const held = new Map<string, LockedFile>();

/** The files that this process watches, by path. */
const watched = new Map<
  string,
  { file: PlatformFile; watch: Watch; closed: Promise<void> }
>();

/** The directory of the tests, as this process names it. */
let directory: string | undefined;

/** Whether the parent has gone. */
let ended = false;

type Implementation = {
  readonly [Name in keyof Commands]: (
    ...args: Parameters<Commands[Name]>
  ) => ReturnType<Commands[Name]> | Promise<ReturnType<Commands[Name]>>;
};

const COMMANDS: Implementation = {
  ping: () => performance.now(),
  machine: () => machineFacts(),
  facts: (path) => pathFacts(path),

  prepare(parent) {
    directory = fs.mkdtempSync(join(parent, DIRECTORY_PREFIX));
    return basename(directory);
  },

  adopt(path) {
    if (!fs.existsSync(path)) return false;
    directory = path;
    return true;
  },

  create: (path) => fs.writeFileSync(path, "0", { flag: "wx" }),

  async hold(path, how) {
    const file = await lockOf(path, how).tryAcquire();
    const at = performance.now();
    if (file) held.set(path, file);
    return { locked: file !== null, at };
  },

  async wait(path, how, timeout) {
    const file = await unlessLocked(lockOf(path, how).acquire({ timeout }));
    const at = performance.now();
    if (file) held.set(path, file);
    return { locked: file !== null, at };
  },

  async drop(path) {
    const at = performance.now();
    const file = held.get(path);
    held.delete(path);
    await file?.close();
    return at;
  },

  watch(path) {
    const file = platform().openSync(path, parseMode("r"), 0);
    let notify = () => {};
    const closed = new Promise<void>((resolve) => notify = resolve);
    const watch = file.watchClose(notify);
    if (watch === null) {
      file.closeSync();
      return false;
    }
    watch.listen();
    watched.set(path, { file, watch, closed });
    return true;
  },

  async closed(path, timeout) {
    const found = watched.get(path);
    if (found === undefined) return false;
    watched.delete(path);
    const ending = new AbortController();
    const seen = await Promise.race([
      found.closed.then(() => true),
      delay(timeout, false, { signal: ending.signal }).catch(() => false),
    ]);
    ending.abort();
    found.watch.end();
    found.file.closeSync();
    return seen;
  },

  touch: (path) => fs.closeSync(fs.openSync(path, "r")),

  contend: (path, locker, duration) => contend(path, locker, duration),
  count: (path) => Number(fs.readFileSync(path, "utf8")) || 0,

  async update(path, times) {
    let made = 0;
    for (; made < times && !ended; made++) {
      await updateFile(path, (text) => String((Number(text) || 0) + 1), {
        durable: false,
        timeout: CONTEST_GRACE_MS,
      });
    }
    return made;
  },

  writes: (path) => tryWrites(path),
};

function lockOf(path: string, { locker, exclusive, range }: How): Lock {
  return new Lock(path, {
    mode: "r+",
    locker,
    shared: !exclusive,
    ...range ? { range } : {},
  });
}

async function contend(
  path: string,
  locker: LockerName,
  duration: number,
): Promise<Contended> {
  const sections: [number, number, boolean][] = [];
  let waited = 0;
  const reads: number[] = [];
  const end = performance.now() + duration;
  const timeout = duration + CONTEST_GRACE_MS;
  for (let i = 1; performance.now() < end && !ended; i++) {
    const exclusive = i % SHARED_EVERY !== 0;
    const lock = lockOf(path, { locker, exclusive });
    let file = await lock.tryAcquire();
    if (file === null) {
      waited++;
      file = await unlessLocked(lock.acquire({ timeout }));
    }
    if (file === null) return { sections, waited, reads, gaveUp: true };
    const enter = performance.now();
    const count = Number(await file.readText()) || 0;
    await delay(SECTION_MS);
    if (exclusive) {
      await file.replaceContents(String(count + 1));
      reads.push(count);
    }
    sections.push([enter, performance.now(), exclusive]);
    await file.close();
  }
  return { sections, waited, reads, gaveUp: false };
}

/** Returns `null` if the lock was not acquired in time. */
async function unlessLocked(
  acquiring: Promise<LockedFile>,
): Promise<LockedFile | null> {
  try {
    return await acquiring;
  } catch (error) {
    if (error instanceof AlreadyLocked) return null;
    throw error;
  }
}

function machineFacts(): MachineFacts {
  const { versions, version, arch } = process;
  const name = versions.bun
    ? `Bun ${versions.bun}`
    : versions.deno
    ? `Deno ${versions.deno}`
    : `Node ${version.slice(1)}`;
  const system = `${process.platform} ${arch}`;
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

async function pathFacts(path: string): Promise<PathFacts> {
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

/**
 * Runs a probe, until standard input ends. The program must not do anything
 * else. It ends by itself afterwards.
 */
export async function runProbe(): Promise<void> {
  for (const signal of IGNORED) process.on(signal, () => {});
  // The parent may be killed before it reads a reply.
  process.stdout.on("error", () => {});
  const running = new Set<Promise<void>>();
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    const request: Request = JSON.parse(line);
    const done = answer(request).finally(() => running.delete(done));
    running.add(done);
  });
  const closed = new Promise<void>((resolve) => lines.on("close", resolve));
  send({ id: 0, value: "ready" });
  await closed;
  ended = true;
  await Promise.all(running);
  await cleanUp();
}

function send(reply: Reply): void {
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}

async function answer([id, name, ...args]: Request): Promise<void> {
  const command = COMMANDS[name] as (...args: unknown[]) => unknown;
  try {
    const value = await command(...args);
    send({ id, value: value ?? null });
  } catch (error) {
    send({ id, error: describeError(error) });
  }
}

async function cleanUp(): Promise<void> {
  for (const path of [...watched.keys()]) await COMMANDS.closed(path, 0);
  for (const path of [...held.keys()]) await COMMANDS.drop(path);
  if (directory === undefined) return;
  for (let i = 0; i < MAX_REMOVALS; i++) {
    // On NFS, a file that another probe has open stays under another name.
    if (tryRemove(directory)) return;
    await delay(REMOVAL_PAUSE_MS);
  }
}

/** Returns whether the directory is gone. */
function tryRemove(path: string): boolean {
  try {
    for (const name of fs.readdirSync(path)) unlinkIfThere(join(path, name));
    fs.rmdirSync(path);
    return true;
  } catch (error) {
    return errorCode(error) === "ENOENT";
  }
}

function unlinkIfThere(path: string): void {
  try {
    fs.unlinkSync(path);
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
  }
}
