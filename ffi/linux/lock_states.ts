/** Finds what holds and what waits for the locks of many files: proc(5). */

import process from "node:process";
import { IN_CLOSE } from "./constants.ts";
import {
  allPids,
  BLOCKED_LINE,
  fdinfoPaths,
  identify,
  listHolders,
  locksKey,
  ownPid,
  parseLines,
  programOf,
} from "./proc.ts";
import type { FileId, LockLine, Proc, Search } from "./proc.ts";
import type { LockState, LockWaiter } from "../types.ts";

/** The lines of fdinfo that say which file is open. */
const OPEN_FILE = /^mnt_id:\s*(\d+)\nino:\s*(\d+)$/m;

/** What fdinfo of an inotify instance says of a watch. */
const WATCH = /^inotify wd:\w+ (ino:\w+ sdev:\w+ mask:\w+) /gm;

/** The kernel's number of a device: its minor number has 20 bits. */
const MINOR_BITS = 20;

/** What a process has of the files to examine. */
interface Process {
  readonly readable: boolean;
  /** Its locks, by the file as /proc/locks names it. */
  readonly locks: ReadonlyMap<string, LockLine>;
  readonly open: ReadonlySet<string>;
  readonly watches: ReadonlySet<string>;
}

/**
 * The states of files, from one pass over the descriptors of all processes. The
 * rules for holders are those of {@linkcode holdersIn}. A process waits if
 *
 * 1. /proc/locks lists it as blocked: it waits in the kernel. For OFD locks,
 *    Linux lists that a process waits, but not which.
 * 2. It has the file open, watches it with inotify(7) for the events that this
 *    package waits for, and none of its descriptors has a lock on it. Other
 *    programs watch for other events: tail(1) for changes of the content.
 */
export class LockStates {
  readonly #proc: Proc;
  readonly #mountInfo: string | undefined;
  readonly #keys = new Set<string>();
  readonly #openFiles = new Set<string>();
  readonly #processes = new Map<number, Process>();

  constructor(proc: Proc) {
    this.#proc = proc;
    this.#mountInfo = proc.read("/proc/self/mountinfo");
  }

  /** Adds a file to examine. The descriptor may be closed afterwards. */
  add(fd: number): FileId | undefined {
    const file = identify(this.#proc, fd, this.#mountInfo);
    if (!file) return undefined;
    this.#keys.add(locksKey(file));
    this.#openFiles.add(openFile(file));
    return file;
  }

  /**
   * Returns the state of each file, which is empty for `undefined`. Returns
   * `null` if /proc belongs to another PID namespace.
   */
  read(files: readonly (FileId | undefined)[]): LockState[] | null {
    if (ownPid(this.#proc) !== process.pid) return null;
    const text = this.#proc.read("/proc/locks");
    const held = parseLines(this.#isExamined, text);
    const blocked = parseLines(this.#isExamined, text, BLOCKED_LINE);
    const pids = allPids(this.#proc);
    return files.map((file) => {
      if (!file) return { holders: [], waiters: [] };
      const key = locksKey(file);
      const isOfFile = (line: LockLine) => line.file === key;
      const search = this.#search(key, pids);
      return {
        holders: listHolders(this.#proc, held.filter(isOfFile), search, true),
        waiters: distinct([
          ...this.#blocked(blocked.filter(isOfFile)),
          ...this.#watching(file, pids),
        ]),
      };
    });
  }

  readonly #isExamined = ({ file }: LockLine) => this.#keys.has(file);

  #search(key: string, pids: readonly number[]): Search {
    const find = (pid: number) => {
      const { readable, locks } = this.#read(pid);
      return readable ? locks.get(key) : "unreadable";
    };
    return {
      find,
      findAll: () =>
        pids.flatMap((pid) => {
          const found = find(pid);
          return typeof found === "object" ? { ...found, pid } : [];
        }),
    };
  }

  #blocked(lines: readonly LockLine[]): LockWaiter[] {
    return lines.map(({ pid, exclusive }) =>
      pid > 0
        ? { ...programOf(this.#proc, pid), exclusive }
        : { pid: null, exclusive }
    );
  }

  #watching(file: FileId, pids: readonly number[]): LockWaiter[] {
    const [id, watch, key] = [openFile(file), watchOf(file), locksKey(file)];
    return pids.filter((pid) => {
      const { open, watches, locks } = this.#read(pid);
      return open.has(id) && watches.has(watch) && !locks.has(key);
    }).map((pid) => ({ ...programOf(this.#proc, pid), exclusive: null }));
  }

  /** Reads the descriptors of a process, once. */
  #read(pid: number): Process {
    const known = this.#processes.get(pid);
    if (known) return known;
    const { paths, listed } = fdinfoPaths(this.#proc, pid);
    const locks = new Map<string, LockLine>();
    const open = new Set<string>();
    const watches = new Set<string>();
    let readable = listed;
    for (const path of paths) {
      const text = this.#proc.read(path);
      readable ||= text !== undefined;
      // A mount namespace has other mounts, but a lock names the device.
      for (const line of parseLines(this.#isExamined, text)) {
        locks.set(line.file, line);
      }
      const [, mount, inode] = OPEN_FILE.exec(text ?? "") ?? [];
      const file = `${mount} ${inode}`;
      if (this.#openFiles.has(file)) open.add(file);
      for (const [, watch = ""] of text?.matchAll(WATCH) ?? []) {
        watches.add(watch);
      }
    }
    const found = { readable, locks, open, watches };
    this.#processes.set(pid, found);
    return found;
  }
}

/** Drops the later waiters of a process: each of its threads may be one. */
function distinct(waiters: readonly LockWaiter[]): LockWaiter[] {
  const pids = waiters.map(({ pid }) => pid);
  return waiters.filter(({ pid }, at) =>
    pid === null || pids.indexOf(pid) === at
  );
}

/** Returns how fdinfo of a descriptor names a file. */
function openFile({ mount, inode }: FileId): string {
  return `${mount} ${inode}`;
}

/** Returns how fdinfo of an inotify instance names a watch of this package. */
function watchOf({ major, minor, inode }: FileId): string {
  const device = major * 2 ** MINOR_BITS + minor;
  const [ino, sdev, mask] = [inode, device, IN_CLOSE].map((number) =>
    number.toString(16)
  );
  return `ino:${ino} sdev:${sdev} mask:${mask}`;
}
