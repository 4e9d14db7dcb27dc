/**
 * A probe: a process that locks files on command of the process that diagnoses.
 *
 * The probes remove the directory of the tests when their standard input ends.
 * It ends however the parent ends, also by `SIGKILL`. A terminal sends its
 * signals to all processes of the group. The probes ignore them, so that they
 * can clean up. P is the parent, Q and R are probes that were created in this order:
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
import { platform } from "../../../ffi/mod.ts";
import { errorCode } from "../../../ffi/types.ts";
import { updateFile } from "../../atomic/update_file.ts";
import { AlreadyLocked } from "../../core/errors.ts";
import type { LockedFile } from "../../file/locked_file.ts";
import { Lock } from "../../lock/lock.ts";
import type { AcquireOptions } from "../../options/acquire_options.ts";
import { parseMode } from "../../options/open_mode.ts";
import { describeError } from "./describe_error.ts";
import { machineFacts, pathFacts } from "./facts.ts";
import { INTERRUPTS } from "./interrupt.ts";
import { DIRECTORY_PREFIX } from "./protocol.ts";
import type {
  Attempt,
  Commands,
  Contended,
  Contest,
  How,
  Reply,
  Request,
} from "./protocol.ts";
import type { LockerName } from "./types.ts";
import { tryWrites } from "./writes.ts";

/** Of this many acquisitions of a process that contends, one is shared. */
const SHARED_EVERY = 4;

/** How long a process waits before it says so, so that its polls are rare. */
const WAIT_MS = 100;

/** How long a free lock, or the report of a close, may take. */
const ANSWER_MS = 5000;

/** How much later a server may close a file than the process that used it. */
const LATE_CLOSE_MS = 1000;

/** How often a probe tries to remove the directory. */
const MAX_REMOVALS = 20;

/** The pause between two of these attempts. */
const REMOVAL_PAUSE_MS = 25;

/** The locks that this process holds, by path. */
const held = new Map<string, LockedFile>();

/** The locks that this process waits for, by path. */
const awaited = new Map<string, Promise<Attempt>>();

/** A file whose closes are reported. */
interface Watched {
  /** Resolves at the first close. */
  readonly closed: Promise<void>;
  wasClosed(): boolean;
  end(): void;
}

/** The files that this process watches, by path. */
const watched = new Map<string, Watched>();

/** The directory of the tests, as this process names it. */
let directory: string | undefined;

/** Aborted when the parent has gone. */
const parent = new AbortController();

type Implementation = {
  readonly [Name in keyof Commands]: (
    ...args: Parameters<Commands[Name]>
  ) => ReturnType<Commands[Name]> | Promise<ReturnType<Commands[Name]>>;
};

const COMMANDS: Implementation = {
  ping: () => performance.now(),
  machine: () => machineFacts(),
  facts: (path) => pathFacts(path),

  prepare(path) {
    directory = fs.mkdtempSync(join(path, DIRECTORY_PREFIX));
    return basename(directory);
  },

  exists: (path) => fs.existsSync(path),

  adopt(path) {
    directory = path;
  },

  create(path, names) {
    for (const name of names) {
      fs.writeFileSync(join(path, name), "0", { flag: "wx" });
    }
  },

  async hold(path, how) {
    return keep(path, await lockOf(path, how).tryAcquire());
  },

  async wait(path, how, timeout) {
    const free = await lockOf(path, how).tryAcquire();
    const acquired = free
      ? Promise.resolve(keep(path, free))
      : acquire(path, how, { timeout }).then((file) => keep(path, file));
    // The command `acquired` reports an error.
    acquired.catch(() => {});
    awaited.set(path, acquired);
    // Not `onWait`: it looks for the holders in all of /proc, which takes
    // seconds on a loaded machine.
    return Promise.race([delay(WAIT_MS, true), acquired.then(() => false)]);
  },

  acquired(path) {
    const acquired = awaited.get(path);
    awaited.delete(path);
    return acquired ?? { locked: false, at: performance.now() };
  },

  async drop(path) {
    const at = performance.now();
    const file = held.get(path);
    held.delete(path);
    await file?.close();
    return at;
  },

  read: (path, locker) => underLock(path, locker, (file) => file.readText()),

  async write(path, locker, text) {
    await underLock(path, locker, (file) => file.replaceContents(text));
  },

  watch(path) {
    const found = watchFile(path);
    if (found === null) return false;
    watched.set(path, found);
    return true;
  },

  async closed(path, name) {
    const found = watched.get(path);
    watched.delete(path);
    if (found === undefined) return false;
    const fencePath = join(dirname(path), name);
    const fence = watchFile(fencePath);
    touch(fencePath);
    await within(ANSWER_MS, fence?.closed);
    if (!found.wasClosed()) await within(LATE_CLOSE_MS, found.closed);
    fence?.end();
    found.end();
    return found.wasClosed();
  },

  touch: (path) => touch(path),
  contend: (path, contest) => contend(path, contest),
  count: (path) => Number(fs.readFileSync(path, "utf8")) || 0,

  async update(path, times, timeout) {
    let made = 0;
    for (; made < times && !parent.signal.aborted; made++) {
      await updateFile(path, (text) => String((Number(text) || 0) + 1), {
        durable: false,
        timeout,
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

/** Remembers a lock of this process. */
function keep(path: string, file: LockedFile | null): Attempt {
  const at = performance.now();
  if (file) held.set(path, file);
  return { locked: file !== null, at };
}

/** Waits for a lock. Returns `null` if it was not acquired in time. */
async function acquire(
  path: string,
  how: How,
  options: AcquireOptions,
): Promise<LockedFile | null> {
  const { signal } = parent;
  try {
    return await lockOf(path, how).acquire({ ...options, signal });
  } catch (error) {
    if (error instanceof AlreadyLocked) return null;
    throw error;
  }
}

/** Runs a function under a lock. Returns `null` if that is not free. */
async function underLock<T>(
  path: string,
  locker: LockerName,
  body: (file: LockedFile) => Promise<T>,
): Promise<T | null> {
  const timeout = ANSWER_MS;
  const file = await acquire(path, { locker, exclusive: true }, { timeout });
  try {
    return file && await body(file);
  } finally {
    await file?.close();
  }
}

/** Waits for a result, but not longer than this. */
async function within(
  milliseconds: number,
  result: Promise<void> | undefined,
): Promise<void> {
  const ending = new AbortController();
  const { signal } = ending;
  const late = delay(milliseconds, undefined, { signal }).catch(() => {});
  await Promise.race([result, late]);
  ending.abort();
}

function touch(path: string): void {
  fs.closeSync(fs.openSync(path, "r"));
}

/** Watches the closes of a file. Returns `null` if they are not reported. */
function watchFile(path: string): Watched | null {
  const file = platform().openSync(path, parseMode("r"), 0);
  let wasClosed = false;
  let notify = () => {};
  const closed = new Promise<void>((resolve) => notify = resolve);
  const watch = file.watchClose(() => {
    wasClosed = true;
    notify();
  });
  if (watch === null) {
    file.closeSync();
    return null;
  }
  watch.listen();
  return {
    closed,
    wasClosed: () => wasClosed,
    end() {
      watch.end();
      file.closeSync();
    },
  };
}

async function contend(
  path: string,
  { locker, acquisitions, section, duration, timeout }: Contest,
): Promise<Contended> {
  const sections: [number, number, boolean][] = [];
  let waited = 0;
  const reads: number[] = [];
  const end = performance.now() + duration;
  const isOver = () => performance.now() >= end || parent.signal.aborted;
  for (let i = 1; i <= acquisitions && !isOver(); i++) {
    const exclusive = i % SHARED_EVERY !== 0;
    const how = { locker, exclusive };
    let file = await lockOf(path, how).tryAcquire();
    if (file === null) {
      waited++;
      file = await acquire(path, how, { timeout });
    }
    if (file === null) return { sections, waited, reads, gaveUp: true };
    const enter = performance.now();
    const count = Number(await file.readText()) || 0;
    await delay(section);
    if (exclusive) {
      await file.replaceContents(String(count + 1));
      reads.push(count);
    }
    sections.push([enter, performance.now(), exclusive]);
    await file.close();
  }
  return { sections, waited, reads, gaveUp: false };
}

/**
 * Runs a probe, until standard input ends. The program must not do anything
 * else. It ends by itself afterwards.
 */
export async function runProbe(): Promise<void> {
  for (const signal of INTERRUPTS) process.on(signal, () => {});
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
  parent.abort();
  await Promise.all(running);
  await Promise.allSettled(awaited.values());
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
  for (const each of watched.values()) each.end();
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
