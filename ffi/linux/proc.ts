/** Finds the holders of locks in /proc/locks and related files: proc(5). */

import process from "node:process";
import type { LockerSettings, LockHolder } from "../types.ts";

/** Access to /proc. */
export interface Proc {
  /** Returns the content of a file, or `undefined` if it cannot be read. */
  read(path: string): string | undefined;
  /** Returns the names in a directory, or `undefined` if it cannot be read. */
  list(path: string): string[] | undefined;
  /** Returns the inode of an open file, as stat(2) reports it. */
  inode(fd: number): bigint;
  /** Returns whether a process exists, also one of another user. */
  processExists(pid: number): boolean;
}

/**
 * A process with more descriptors is not examined, unless all processes are: a
 * server with 10,000 connections would block its event loop for 50 ms.
 */
const MAX_QUICK_FDS = 1000;

/** A line of /proc/locks. */
export interface LockLine {
  pid: number;
  exclusive: boolean;
  /** The device and the inode. */
  file: string;
  /** `FLOCK`, `POSIX` or `OFDLCK`. */
  kind: string;
  /** The first and the last byte. */
  start: number;
  end: number;
}

/** Returns a path to an open file that stays valid when the file is renamed. */
export function procPath(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/** Returns whether a lock is one of those to list. */
type LineFilter = (line: LockLine) => boolean;

/** What the descriptors of processes say of the locks to list. */
export interface Search {
  /**
   * Returns a lock that a process has. Returns `undefined` if it does not have
   * one, or does not exist.
   */
  find(pid: number, thorough: boolean): LockLine | "unreadable" | undefined;
  /** Returns one lock of each process that has any. */
  findAll(): LockLine[];
}

/**
 * Returns the processes that hold locks on the file of a descriptor. A lock of
 * this very descriptor is left out.
 *
 * For a lock of flock(2), /proc/locks names the process that took it. That
 * process may have closed the file or died, while a child process keeps the
 * lock, and its PID may belong to another process now:
 *
 * 1. The process exists, and one of its descriptors has the lock: a holder.
 * 2. The process does not exist, is a zombie, or none of its descriptors has
 *    the lock: not a holder. A child process that inherited the descriptor is.
 * 3. The process exists, but its descriptors cannot be read, as those of
 *    another user: a holder, because the kernel names it and nothing
 *    contradicts.
 * 4. The process ends between two reads: as 2.
 * 5. The process belongs to another PID namespace: /proc/locks leaves it out.
 *    In a PID namespace, it also leaves out the lock of a process that ended.
 * 6. /proc belongs to another PID namespace: its PIDs mean nothing here.
 * 7. /proc is mounted with `hidepid`: as 3, if kill(2) finds the process.
 *
 * @param search Also searches the descriptors of every process, if /proc/locks
 * lists a lock whose holder is not found otherwise: an OFD lock, or 2. In a PID
 * namespace, also if it lists none.
 * @param locker Lists only holders whose locks conflict with this one.
 */
export function holdersIn(
  proc: Proc,
  fd: number,
  search: boolean,
  locker?: LockerSettings,
): LockHolder[] {
  const self = ownPid(proc);
  if (self !== process.pid) return [];
  const file = procLocksKey(proc, fd);
  const matches: LineFilter = (line) =>
    line.file === file && (!locker || conflicts(locker, line, self));
  const lines = parseLines(matches, proc.read("/proc/locks"));
  const skip = `/proc/${self}/fdinfo/${fd}`;
  return listHolders(proc, lines, new Examination(proc, matches, skip), search);
}

/** Returns the processes that hold the locks that /proc/locks lists. */
export function listHolders(
  proc: Proc,
  lines: readonly LockLine[],
  found: Search,
  search: boolean,
): LockHolder[] {
  const holders = new Map<number, LockHolder>();
  let orphans = false;
  for (const line of lines) {
    if (isHolder(proc, line, found, search)) addHolder(line);
    else orphans ||= line.pid !== process.pid;
  }
  const hidden = holders.size === 0 && !isInitialNamespace(proc);
  if (search && (orphans || hidden)) found.findAll().forEach(addHolder);
  return [...holders.values()];

  function addHolder({ pid, exclusive }: LockLine): void {
    holders.set(pid, { ...programOf(proc, pid), exclusive });
  }
}

/** Returns a process and the name of its program, if that can be read. */
export function programOf(
  proc: Proc,
  pid: number,
): { pid: number; command?: string } {
  const command = proc.read(`/proc/${pid}/comm`)?.trimEnd();
  return command === undefined ? { pid } : { pid, command };
}

/** Returns whether the process that /proc/locks names holds the lock. */
function isHolder(
  proc: Proc,
  { pid, kind }: LockLine,
  found: Search,
  thorough: boolean,
): boolean {
  if (pid <= 0) return false;
  // A POSIX lock ends with its process, so the kernel never names a dead one.
  if (kind === "POSIX") return true;
  const lock = found.find(pid, thorough);
  return lock === "unreadable" ? isAlive(proc, pid) : lock !== undefined;
}

/** Returns whether a process exists that is not a zombie. */
function isAlive(proc: Proc, pid: number): boolean {
  const stat = proc.read(`/proc/${pid}/stat`);
  if (stat === undefined) return proc.processExists(pid);
  // The name in parentheses may contain parentheses.
  return !/^ [ZX]/.test(stat.slice(stat.lastIndexOf(")") + 1));
}

/** In the initial PID namespace, process 2 is the parent of kernel threads. */
function isInitialNamespace(proc: Proc): boolean {
  return proc.read("/proc/2/comm") === "kthreadd\n";
}

/** Returns the PID of this process in the PID namespace of /proc. */
export function ownPid(proc: Proc): number {
  return parseInt(proc.read("/proc/self/stat") ?? "");
}

/** How the kernel calls the kinds of locks. */
const KINDS = { flock: "FLOCK", ofd: "OFDLCK", lockf: "POSIX" } as const;

/**
 * Returns whether a descriptor of this process has a lock of a kind. The kernel
 * lists its locks in /proc/self/fdinfo. Returns `null` if there is no /proc.
 */
export function isLockedIn(
  proc: Pick<Proc, "read">,
  fd: number,
  locker: LockerSettings["name"],
): boolean | null {
  const info = proc.read(`/proc/self/fdinfo/${fd}`);
  if (info === undefined) return null;
  return parseLines(({ kind }) => kind === KINDS[locker], info).length > 0;
}

/**
 * Looks for locks in the descriptors of processes. The kernel lists the locks
 * of an open file in /proc/PID/fdinfo.
 */
class Examination implements Search {
  readonly #proc: Proc;
  readonly #matches: LineFilter;
  /** The descriptor whose own locks do not count. */
  readonly #skip: string;

  constructor(proc: Proc, matches: LineFilter, skip: string) {
    this.#proc = proc;
    this.#matches = matches;
    this.#skip = skip;
  }

  findAll(): LockLine[] {
    return allPids(this.#proc).flatMap((pid) => {
      const found = this.find(pid, true);
      return typeof found === "object" ? { ...found, pid } : [];
    });
  }

  find(pid: number, thorough: boolean): LockLine | "unreadable" | undefined {
    const { paths, listed } = fdinfoPaths(this.#proc, pid);
    if (paths.length > MAX_QUICK_FDS && !thorough) return undefined;
    let readable = listed;
    for (const path of paths) {
      const text = path === this.#skip ? "" : this.#proc.read(path);
      readable ||= text !== undefined;
      const [line] = parseLines(this.#matches, text);
      if (line) return line;
    }
    return readable ? undefined : "unreadable";
  }
}

/** Returns all processes, or none if /proc cannot be listed. */
export function allPids(proc: Proc): number[] {
  return (proc.list("/proc") ?? []).map(Number).filter(Number.isInteger);
}

/**
 * Returns where the descriptors of a process are described. If they cannot be
 * listed, returns the possible paths: Deno may not list /proc without `-A`.
 */
export function fdinfoPaths(
  proc: Proc,
  pid: number,
): { paths: string[]; listed: boolean } {
  const directory = `/proc/${pid}/fdinfo`;
  const names = proc.list(directory);
  return {
    paths: (names ?? fdNumbers(proc, pid)).map((fd) => `${directory}/${fd}`),
    listed: names !== undefined,
  };
}

function fdNumbers(proc: Proc, pid: number): string[] {
  const status = proc.read(`/proc/${pid}/status`) ?? "";
  const size = Number(/^FDSize:\s*(\d+)$/m.exec(status)?.[1] ?? 0);
  return Array.from(
    { length: Math.min(size, MAX_QUICK_FDS) },
    (_, fd) => String(fd),
  );
}

const LINE =
  "(FLOCK|POSIX|OFDLCK) +\\w+ +(READ|WRITE) +(-?\\d+) +(\\S+) +(\\d+) +(\\d+|EOF)";
const HELD_LINE = new RegExp(`^(?:lock:\\s+)?\\d+: ${LINE}`, "gm");
/** A lock that a process waits for in the kernel. */
export const BLOCKED_LINE: RegExp = new RegExp(`^\\d+: +-> ${LINE}`, "gm");

/**
 * Parses lines such as `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF`, and
 * skips those of waiters, which are marked by `->`, unless they are wanted.
 */
export function parseLines(
  matches: LineFilter,
  text = "",
  line: RegExp = HELD_LINE,
): LockLine[] {
  return [...text.matchAll(line)]
    .map(([, kind = "", type, pid, file = "", start, end]): LockLine => ({
      pid: Number(pid),
      exclusive: type === "WRITE",
      file,
      kind,
      start: Number(start),
      end: end === "EOF" ? Infinity : Number(end),
    }))
    .filter(matches);
}

/**
 * Returns whether locks conflict. flock(2) and record locks never do, nor do
 * two POSIX locks of one process.
 */
function conflicts(
  { name, range }: LockerSettings,
  line: LockLine,
  self: number,
): boolean {
  if ((name === "flock") !== (line.kind === "FLOCK")) return false;
  if (name === "lockf" && line.kind === "POSIX" && line.pid === self) {
    return false;
  }
  return !range ||
    line.start < range.start + range.length && range.start <= line.end;
}

/**
 * Returns the file as /proc/locks names it: the device of its mount, and its
 * inode. stat(2) may report other numbers, for example on btrfs and overlayfs.
 */
function procLocksKey(proc: Proc, fd: number): string | undefined {
  const mountInfo = proc.read("/proc/self/mountinfo");
  const file = identify(proc, fd, mountInfo);
  return file && locksKey(file);
}

/** A file, as the kernel identifies it. */
export interface FileId {
  readonly mount: number;
  /** The device of the mount. */
  readonly major: number;
  readonly minor: number;
  readonly inode: bigint;
}

/** Identifies the file of a descriptor of this process. */
export function identify(
  proc: Proc,
  fd: number,
  mountInfo = "",
): FileId | undefined {
  const info = proc.read(`/proc/self/fdinfo/${fd}`) ?? "";
  const [, mount] = /^mnt_id:\s*(\d+)$/m.exec(info) ?? [];
  // The kernel reports the inode since Linux 5.14.
  const inode = /^ino:\s*(\d+)$/m.exec(info)?.[1] ?? proc.inode(fd);
  const device = new RegExp(`^${mount} \\d+ (\\d+):(\\d+) `, "m")
    .exec(mountInfo);
  if (!device) return undefined;
  const [major, minor] = [Number(device[1]), Number(device[2])];
  return { mount: Number(mount), major, minor, inode: BigInt(inode) };
}

/** Returns a file as /proc/locks names it. */
export function locksKey({ major, minor, inode }: FileId): string {
  const device = [major, minor].map((number) =>
    number.toString(16).padStart(2, "0")
  );
  return `${device.join(":")}:${inode}`;
}
