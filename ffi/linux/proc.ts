/** Finds the holders of locks in /proc/locks and related files: proc(5). */

import type { LockerSettings, LockHolder } from "../types.ts";

/** Access to /proc. */
export interface Proc {
  /** Returns the content of a file, or `undefined` if it cannot be read. */
  read(path: string): string | undefined;
  /** Returns the names in a directory, or none if it cannot be read. */
  list(path: string): string[];
  /** Returns the inode of an open file, as stat(2) reports it. */
  inode(fd: number): bigint;
}

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
 * Returns the processes that hold locks on the file of a descriptor.
 *
 * @param search Also searches the descriptors of every process, if /proc/locks
 * lists a lock without a living process. That is an OFD lock, or a lock whose
 * descriptor was inherited from a process that has exited.
 * @param locker Lists only holders whose locks conflict with this one.
 */
export function holdersIn(
  proc: Proc,
  fd: number,
  search: boolean,
  locker?: LockerSettings,
): LockHolder[] {
  const file = procLocksKey(proc, fd);
  const matches: LineFilter = (line) =>
    line.file === file && (!locker || conflicts(locker, line));
  const holders = new Map<number, LockHolder>();
  let orphans = false;
  for (const line of parseLines(matches, proc.read("/proc/locks"))) {
    const holder = readHolder(proc, line);
    if (holder) holders.set(line.pid, holder);
    else orphans = true;
  }
  if (orphans && search) {
    for (const holder of processesWith(proc, matches)) {
      holders.set(holder.pid, holder);
    }
  }
  return [...holders.values()];
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
 * Returns the holder, or `undefined` if its process has exited or belongs to
 * another container.
 */
function readHolder(
  proc: Proc,
  { pid, exclusive }: LockLine,
): LockHolder | undefined {
  const command = proc.read(`/proc/${pid}/comm`)?.trimEnd();
  return command === undefined ? undefined : { pid, command, exclusive };
}

/**
 * Yields the processes that have an open file with such a lock. The kernel
 * lists the locks of an open file in /proc/PID/fdinfo.
 */
function* processesWith(
  proc: Proc,
  matches: LineFilter,
): Generator<LockHolder> {
  for (const pid of proc.list("/proc").map(Number).filter(Number.isInteger)) {
    const directory = `/proc/${pid}/fdinfo`;
    for (const fd of proc.list(directory)) {
      const [line] = parseLines(matches, proc.read(`${directory}/${fd}`));
      const holder = line && readHolder(proc, { ...line, pid });
      if (!holder) continue;
      yield holder;
      break;
    }
  }
}

/**
 * Parses lines such as `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF`, and
 * skips those of waiters, which are marked by `->`.
 */
function parseLines(matches: LineFilter, text = ""): LockLine[] {
  const line =
    /^(?:lock:\s+)?\d+: (FLOCK|POSIX|OFDLCK) +\w+ +(READ|WRITE) +(-?\d+) +(\S+) +(\d+) +(\d+|EOF)/gm;
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

/** Returns whether locks conflict. flock(2) and record locks never do. */
function conflicts({ name, range }: LockerSettings, line: LockLine): boolean {
  if ((name === "flock") !== (line.kind === "FLOCK")) return false;
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
