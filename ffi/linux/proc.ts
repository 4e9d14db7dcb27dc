/** Finds the holders of locks in /proc/locks and related files: proc(5). */

import process from "node:process";
import type { LockerSettings, LockHolder, LockWaiter } from "../types.ts";

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
interface LockLine {
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
  const examined = new Examination(proc, matches, `/proc/${self}/fdinfo/${fd}`);
  const holders = new Map<number, LockHolder>();
  let orphans = false;
  for (const line of parseLines(matches, proc.read("/proc/locks"))) {
    if (examined.holds(line, search)) addHolder(line);
    else orphans ||= line.pid !== self;
  }
  const hidden = holders.size === 0 && !isInitialNamespace(proc);
  if (search && (orphans || hidden)) examined.searchAll().forEach(addHolder);
  return [...holders.values()];

  function addHolder({ pid, exclusive }: LockLine): void {
    const command = proc.read(`/proc/${pid}/comm`)?.trimEnd();
    const holder = command === undefined
      ? { pid, exclusive }
      : { pid, command, exclusive };
    holders.set(pid, holder);
  }
}

/**
 * Returns the processes that wait for locks on the file of a descriptor:
 *
 * 1. /proc/locks lists it as blocked: it waits in the kernel.
 * 2. It has the file open, watches it with inotify(7), and none of its
 *    descriptors has a lock on it: it waits as this package does.
 */
export function waitersIn(proc: Proc, fd: number): LockWaiter[] {
  if (ownPid(proc) !== process.pid) return [];
  const file = procLocksKey(proc, fd);
  const own = proc.read(`/proc/self/fdinfo/${fd}`) ?? "";
  const waiters = new Map<number, LockWaiter>();
  const blocked = parseLines(
    (line) => line.file === file && line.pid > 0,
    proc.read("/proc/locks"),
    BLOCKED_LINE,
  );
  for (const { pid, exclusive } of blocked) add(pid, exclusive);
  for (const name of proc.list("/proc") ?? []) {
    const pid = Number(name);
    if (pid > 0 && pid !== process.pid && watches(proc, pid, own)) {
      add(pid, null);
    }
  }
  return [...waiters.values()];

  function add(pid: number, exclusive: boolean | null): void {
    const command = proc.read(`/proc/${pid}/comm`)?.trimEnd();
    const waiter = { pid, exclusive };
    if (waiters.has(pid)) return;
    waiters.set(pid, command === undefined ? waiter : { ...waiter, command });
  }
}

/** The lines of fdinfo that say which file is open. */
const OPEN_FILE = /^mnt_id:\s*\d+\nino:\s*(\d+)$/m;

/**
 * Returns whether a process has the file open without a lock, and watches it.
 *
 * @param own The fdinfo of a descriptor of the file.
 */
function watches(proc: Proc, pid: number, own: string): boolean {
  const [id, inode] = OPEN_FILE.exec(own) ?? [];
  if (id === undefined) return false;
  const watch = `ino:${Number(inode).toString(16)} `;
  let isOpen = false;
  let isWatched = false;
  for (const name of proc.list(`/proc/${pid}/fdinfo`) ?? []) {
    const info = proc.read(`/proc/${pid}/fdinfo/${name}`) ?? "";
    const isFile = OPEN_FILE.exec(info)?.[0] === id;
    if (isFile && /^lock:/m.test(info)) return false;
    isOpen ||= isFile;
    isWatched ||= /^inotify /m.test(info) && info.includes(watch);
  }
  return isOpen && isWatched;
}

/** In the initial PID namespace, process 2 is the parent of kernel threads. */
function isInitialNamespace(proc: Proc): boolean {
  return proc.read("/proc/2/comm") === "kthreadd\n";
}

/** Returns the PID of this process in the PID namespace of /proc. */
function ownPid(proc: Proc): number {
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
class Examination {
  readonly #proc: Proc;
  readonly #matches: LineFilter;
  /** The descriptor whose own locks do not count. */
  readonly #skip: string;

  constructor(proc: Proc, matches: LineFilter, skip: string) {
    this.#proc = proc;
    this.#matches = matches;
    this.#skip = skip;
  }

  /** Returns whether the process that /proc/locks names holds the lock. */
  holds({ pid, kind }: LockLine, thorough: boolean): boolean {
    if (pid <= 0) return false;
    // A POSIX lock ends with its process, so the kernel never names a dead one.
    if (kind === "POSIX") return true;
    const found = this.#find(pid, thorough ? Infinity : MAX_QUICK_FDS);
    return found === "unreadable" ? this.#isAlive(pid) : found !== undefined;
  }

  /** Returns the processes that have an open file with such a lock. */
  searchAll(): LockLine[] {
    const pids = (this.#proc.list("/proc") ?? []).map(Number)
      .filter(Number.isInteger);
    return pids.flatMap((pid) => {
      const found = this.#find(pid, Infinity);
      return typeof found === "object" ? { ...found, pid } : [];
    });
  }

  /** Returns a lock that a process has, `undefined` if it has no such lock. */
  #find(pid: number, maxFds: number): LockLine | "unreadable" | undefined {
    const directory = `/proc/${pid}/fdinfo`;
    const listed = this.#proc.list(directory);
    const names = listed ?? this.#fdNumbers(pid);
    if (names.length > maxFds) return undefined;
    let readable = listed !== undefined;
    for (const name of names) {
      const path = `${directory}/${name}`;
      const text = path === this.#skip ? "" : this.#proc.read(path);
      readable ||= text !== undefined;
      const [line] = parseLines(this.#matches, text);
      if (line) return line;
    }
    return readable ? undefined : "unreadable";
  }

  /** The possible descriptors, because Deno may not list /proc without `-A`. */
  #fdNumbers(pid: number): string[] {
    const status = this.#proc.read(`/proc/${pid}/status`) ?? "";
    const size = Number(/^FDSize:\s*(\d+)$/m.exec(status)?.[1] ?? 0);
    return Array.from(
      { length: Math.min(size, MAX_QUICK_FDS) },
      (_, fd) => String(fd),
    );
  }

  /** Returns whether a process exists that is not a zombie. */
  #isAlive(pid: number): boolean {
    const stat = this.#proc.read(`/proc/${pid}/stat`);
    if (stat === undefined) return this.#proc.processExists(pid);
    // The name in parentheses may contain parentheses.
    return !/^ [ZX]/.test(stat.slice(stat.lastIndexOf(")") + 1));
  }
}

const LINE =
  "(FLOCK|POSIX|OFDLCK) +\\w+ +(READ|WRITE) +(-?\\d+) +(\\S+) +(\\d+) +(\\d+|EOF)";
const HELD_LINE = new RegExp(`^(?:lock:\\s+)?\\d+: ${LINE}`, "gm");
const BLOCKED_LINE = new RegExp(`^\\d+: +-> ${LINE}`, "gm");

/**
 * Parses lines such as `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF`, and
 * skips those of waiters, which are marked by `->`, unless they are wanted.
 */
function parseLines(
  matches: LineFilter,
  text = "",
  line = HELD_LINE,
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
  const info = proc.read(`/proc/self/fdinfo/${fd}`) ?? "";
  const [, mount] = /^mnt_id:\s*(\d+)$/m.exec(info) ?? [];
  // The kernel reports the inode since Linux 5.14.
  const inode = /^ino:\s*(\d+)$/m.exec(info)?.[1] ?? proc.inode(fd);
  const device = new RegExp(`^${mount} \\d+ (\\d+):(\\d+) `, "m")
    .exec(proc.read("/proc/self/mountinfo") ?? "");
  if (!device) return undefined;
  const [major, minor] = device.slice(1).map((number) =>
    Number(number).toString(16).padStart(2, "0")
  );
  return `${major}:${minor}:${inode}`;
}
