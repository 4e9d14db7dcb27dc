/** Linux tells who holds locks: /proc/locks and its neighbours, proc(5). */

import type { LockerSettings, LockHolder } from "../types.ts";

/** How /proc is read. */
export interface Proc {
  /** The whole of a file, `undefined` if it cannot be had. */
  read(path: string): string | undefined;
  /** The names in a folder, none if it cannot be had. */
  list(path: string): string[];
  /** The inode of an open file as stat(2) tells it. */
  inode(fd: number): bigint;
}

/** A line of /proc/locks. */
interface LockLine {
  pid: number;
  mode: LockHolder["mode"];
  /** Device and inode. */
  file: string;
  /** `FLOCK`, `POSIX` or `OFDLCK`. */
  kind: string;
  /** The first and the last byte. */
  start: number;
  end: number;
}

/** The open file itself, whatever its path names by now. */
export function procPath(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/** Whether a lock is among those that are asked for. */
type LineFilter = (line: LockLine) => boolean;

/**
 * Who holds locks on the file of a descriptor, those of one kind or all.
 * `search` also looks, process by process, for those whom the system does not
 * name: who has the lock of an open file by record, and who was left a lock by
 * a process that is gone.
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
  for (const line of lines(matches, proc.read("/proc/locks"))) {
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

/** `undefined` if the process is gone, or of another container. */
function readHolder(
  proc: Proc,
  { pid, mode }: LockLine,
): LockHolder | undefined {
  const command = proc.read(`/proc/${pid}/comm`)?.trimEnd();
  return command === undefined ? undefined : { pid, command, mode };
}

/** Whoever has the open file has its lock, and the system lists it there. */
function* processesWith(
  proc: Proc,
  matches: LineFilter,
): Generator<LockHolder> {
  for (const pid of proc.list("/proc").map(Number).filter(Number.isInteger)) {
    const folder = `/proc/${pid}/fdinfo`;
    for (const fd of proc.list(folder)) {
      const [line] = lines(matches, proc.read(`${folder}/${fd}`));
      const holder = line && readHolder(proc, { ...line, pid });
      if (!holder) continue;
      yield holder;
      break;
    }
  }
}

/** `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF`; `->` marks waiters. */
function lines(matches: LineFilter, text = ""): LockLine[] {
  const line =
    /^(?:lock:\s+)?\d+: (FLOCK|POSIX|OFDLCK) +\w+ +(READ|WRITE) +(-?\d+) +(\S+) +(\d+) +(\d+|EOF)/gm;
  return [...text.matchAll(line)]
    .map(([, kind, mode, pid, file, start, end]): LockLine => ({
      pid: Number(pid),
      mode: mode === "WRITE" ? "exclusive" : "shared",
      file,
      kind,
      start: Number(start),
      end: end === "EOF" ? Infinity : Number(end),
    }))
    .filter(matches);
}

/** flock(2) and record locks do not see each other. */
function conflicts({ name, range }: LockerSettings, line: LockLine): boolean {
  if ((name === "flock") !== (line.kind === "FLOCK")) return false;
  return !range ||
    line.start < range.start + range.length && range.start <= line.end;
}

/**
 * The file as /proc/locks names it: device of its mount and inode. Not those of
 * stat(2), which btrfs and overlayfs make up.
 */
function procLocksKey(proc: Proc, fd: number): string | undefined {
  const info = proc.read(`/proc/self/fdinfo/${fd}`) ?? "";
  const [, mount] = /^mnt_id:\s*(\d+)$/m.exec(info) ?? [];
  // Linux says so since 5.14.
  const inode = /^ino:\s*(\d+)$/m.exec(info)?.[1] ?? proc.inode(fd);
  const device = new RegExp(`^${mount} \\d+ (\\d+):(\\d+) `, "m")
    .exec(proc.read("/proc/self/mountinfo") ?? "");
  if (!device) return undefined;
  const [major, minor] = device.slice(1).map((number) =>
    Number(number).toString(16).padStart(2, "0")
  );
  return `${major}:${minor}:${inode}`;
}
