/** The states of file locks. */

import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { platform } from "../../../ffi/mod.ts";
import { errorCode } from "../../../ffi/types.ts";
import type { LockWaiter } from "../../../ffi/types.ts";
import { siblingPath } from "../../core/paths.ts";
import { BoundedSemaphore } from "../../lock/bounded_semaphore.ts";
import { formatName } from "../../options/validate.ts";
import { Failure, NO_INPUT, UNAVAILABLE } from "../exit_status.ts";
import { toFailure } from "../run/library_errors.ts";
import { formatState } from "./format.ts";
import type { Reader } from "./reader.ts";

/** A process that holds a lock or waits for it. */
export interface LocalParticipant {
  /** `null` if the system does not report it. */
  readonly pid: number | null;
  /** The command line, or the name of the program. */
  readonly command: string | null;
  /** `null` if the system does not report it. */
  readonly exclusive: boolean | null;
  /** When the process started. No system reports when it acquired the lock. */
  readonly started: string | null;
}

/** The state of a lock file, of a PID file, or of a semaphore. */
export interface FileStatus {
  readonly path: string;
  /** The largest number of holders, for a semaphore. */
  readonly maximum?: number;
  readonly holders: readonly LocalParticipant[];
  readonly waiters: readonly LocalParticipant[];
}

/** What the arguments are. A number is that of the holders of a semaphore. */
export type FileClass = "file" | "pid" | number;

/** Reads the states of file locks. */
export function fileReader(
  paths: readonly string[],
  what: FileClass,
): Reader<FileStatus> {
  return {
    read: (isFirst) =>
      readLocks(paths.flatMap((path) => find(path, what, isFirst))),
    format: formatFile,
  };
}

/** The files of a lock. */
interface LockFiles {
  readonly path: string;
  readonly maximum?: number;
  readonly files: readonly string[];
  /** Whether it is listed only if a process holds it or waits for it. */
  readonly hidden?: true;
}

/** Returns the locks that an argument names. */
function find(path: string, what: FileClass, isFirst: boolean): LockFiles[] {
  try {
    return findLocks(path, what, isFirst);
  } catch (error) {
    const code = errorCode(error);
    if (code === undefined) throw toFailure(error);
    const isMissing = code === "ENOENT";
    const reason = isMissing
      ? "No such file or directory"
      : (error as Error).message;
    throw new Failure(NO_INPUT, `cannot open ${formatName(path)}: ${reason}`);
  }
}

function findLocks(
  path: string,
  what: FileClass,
  isFirst: boolean,
): LockFiles[] {
  // The file exists only while the lock is held.
  if (what === "pid") return [{ path, files: [siblingPath(path, ".lock")] }];
  if (typeof what === "number") {
    const [directory, name] = [dirname(path), basename(path)];
    const { paths: files } = new BoundedSemaphore(what, { directory, name });
    if (isFirst && !files.some((file) => existsSync(file))) statSync(files[0]!);
    return [{ path, maximum: what, files }];
  }
  const stats = statSync(path, { throwIfNoEntry: isFirst });
  if (!stats?.isDirectory()) return [{ path, files: [path] }];
  const entries = readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => join(path, name));
  return [path, ...entries].map((each) => (
    { path: each, files: [each], hidden: true }
  ));
}

/** Reads the state of all locks in one pass, because a pass takes long. */
function readLocks(locks: readonly LockFiles[]): FileStatus[] {
  const states = platform().lockStates?.(locks.flatMap(({ files }) => files));
  if (!states) {
    throw new Failure(
      UNAVAILABLE,
      "this system does not report the holders of locks, or the runtime " +
        "cannot read them (Deno requires -A)",
    );
  }
  let at = 0;
  return locks.flatMap(({ files, hidden, ...lock }) => {
    const own = states.slice(at, at += files.length);
    const holders = own.flatMap(({ holders }) => holders);
    const waiters = own.flatMap(({ waiters }) => waiters);
    if (hidden && holders.length + waiters.length === 0) return [];
    return {
      ...lock,
      holders: holders.map(participant),
      waiters: distinct(waiters).map(participant),
    };
  });
}

/** A process that waits for a semaphore waits for each of its files. */
function distinct(waiters: readonly LockWaiter[]): LockWaiter[] {
  const pids = waiters.map(({ pid }) => pid);
  return waiters.filter(({ pid }, at) =>
    pid === null || pids.indexOf(pid) === at
  );
}

function participant(
  { pid, command, exclusive }: LockWaiter,
): LocalParticipant {
  if (pid === null) return { pid, command: null, exclusive, started: null };
  const words = readProc(`${pid}/cmdline`).replaceAll("\0", " ").trim();
  const started = processStart(pid);
  return {
    pid,
    command: words === "" ? command ?? null : words,
    exclusive,
    started: started === null ? null : new Date(started).toISOString(),
  };
}

/** proc(5): the unit of times in `/proc/PID/stat`, on all architectures. */
const TICKS_PER_SECOND = 100;

/** proc(5): the time of the start follows the name by 20 fields. */
const START_FIELD = 20;

/** Returns when a process started, in milliseconds since 1970. */
function processStart(pid: number): number | null {
  const stat = readProc(`${pid}/stat`);
  const [, boot] = /^btime (\d+)$/m.exec(readProc("stat")) ?? [];
  const fields = stat.slice(stat.lastIndexOf(")") + 1).split(" ");
  const ticks = Number(fields[START_FIELD]);
  if (boot === undefined || !(ticks > 0)) return null;
  return (Number(boot) + ticks / TICKS_PER_SECOND) * 1000;
}

function readProc(name: string): string {
  try {
    return readFileSync(`/proc/${name}`, "utf8");
  } catch {
    return "";
  }
}

function formatFile({ path, maximum, holders, waiters }: FileStatus): string {
  return formatState(path, maximum, holders.length) +
    holders.map((holder) => formatLine("holds", holder)).join("") +
    waiters.map((waiter) => formatLine("waits", waiter)).join("");
}

function formatLine(
  verb: string,
  { pid, command, exclusive, started }: LocalParticipant,
): string {
  const type = exclusive === null ? "" : exclusive ? "exclusive" : "shared";
  const since = started === null ? "" : `, started ${localTime(started)}`;
  const name = pid === null
    ? "  a process that the system does not name"
    : command === null
    ? ""
    : `  ${formatName(command)}`;
  return `  ${verb}  ${type.padEnd(9)}  ${String(pid ?? "-").padStart(7)}` +
    `${name}${since}\n`;
}

/** Formats a time as `2026-11-29 14:02:11`, in the time zone of the user. */
function localTime(iso: string): string {
  const date = new Date(iso);
  const local = date.getTime() - date.getTimezoneOffset() * 60_000;
  return new Date(local).toISOString().slice(0, 19).replace("T", " ");
}
