/** What the parent process and the probes say to each other: lines of JSON. */

import type {
  ErrorReport,
  FileReport,
  FileSystemReport,
  InotifyReport,
  LockerName,
  RuntimeReport,
  WriteReport,
} from "./types.ts";

/**
 * The argument with which a program starts as a probe. It begins with a dash, so
 * as the first argument it is not a FILE, which would follow `--`.
 */
export const PROBE_ARGUMENT = "--doctor-probe";

/** How the names of the directories begin in which the probes lock. */
export const DIRECTORY_PREFIX = ".portalock-doctor-";

/** The files in that directory. */
export const FILES = {
  watched: "watched",
  fence: "fence",
  updated: "updated",
  conflict: "conflict",
} as const;

/** How a probe locks a file. */
export interface How {
  readonly locker: LockerName;
  readonly exclusive: boolean;
  readonly range?: { readonly start: number; readonly length: number };
}

/** The result of an attempt: whether it locked, and when, by its own clock. */
export interface Attempt {
  readonly locked: boolean;
  readonly at: number;
}

/** A path, as its probe sees it. */
export interface PathFacts {
  readonly realPath: string;
  readonly type: "directory" | "file" | "other";
  readonly directory: string;
  readonly fileSystem: FileSystemReport | null;
  readonly local: boolean;
  readonly mode: string;
  readonly owner: number | null;
  readonly user: number | null;
  readonly file: FileReport | null;
}

/** The machine and the runtime, as a probe sees them. */
export interface MachineFacts {
  readonly runtime: RuntimeReport;
  readonly inotify: InotifyReport | null;
}

/** How a probe contends. */
export interface Contest {
  readonly locker: LockerName;
  /** How often it acquires the lock. */
  readonly acquisitions: number;
  /** How long it stays inside each time. */
  readonly section: number;
  /** When it stops in any case. */
  readonly duration: number;
  /** How long it waits for the others. */
  readonly timeout: number;
}

/** What one probe did while it contended. */
export interface Contended {
  /** When it entered and left, by its own clock, and whether exclusively. */
  readonly sections: readonly [
    enter: number,
    leave: number,
    exclusive: boolean,
  ][];
  readonly waited: number;
  readonly gaveUp: boolean;
  /** What it read from the counter in the file, before it incremented it. */
  readonly reads: readonly number[];
}

/** The commands of a probe: their arguments and their results. */
export interface Commands {
  /** Returns its clock. */
  ping(): number;
  /** Describes the runtime and the machine. */
  machine(): MachineFacts;
  /** Describes a path. */
  facts(path: string): PathFacts;
  /** Creates the directory of the tests, and returns its name. */
  prepare(directory: string): string;
  /** Returns whether a path exists. */
  exists(path: string): boolean;
  /** Uses the directory of the tests, and removes it at the end, too. */
  adopt(directory: string): void;
  /** Creates files. Each contains a counter. */
  create(directory: string, names: readonly string[]): void;
  /** Attempts once to lock a file. */
  hold(path: string, how: How): Attempt;
  /**
   * Starts to lock a file. Returns `true` when the process has waited for 100 ms,
   * or `false` when it has the lock before.
   */
  wait(path: string, how: How, timeout: number): boolean;
  /** Returns how a wait ended. */
  acquired(path: string): Attempt;
  /** Releases a lock. Returns when that began. */
  drop(path: string): number;
  /** Reads a file under its lock. Returns `null` if that is not free. */
  read(path: string, locker: LockerName): string | null;
  /** Overwrites a file under its lock. */
  write(path: string, locker: LockerName, text: string): void;
  /** Watches a file. Returns whether the system can report its closes. */
  watch(path: string): boolean;
  /**
   * Returns whether a close of the watched file was reported. Then closes a file
   * beside it, the fence, and waits for the report of that, too.
   */
  closed(path: string, fence: string): boolean;
  /** Opens and closes a file. */
  touch(path: string): void;
  /** Acquires a lock again and again. */
  contend(path: string, contest: Contest): Contended;
  /** Reads the counter of a file. */
  count(path: string): number;
  /** Increments the counter of a file with `updateFile`. */
  update(path: string, times: number, timeout: number): number;
  /** Tries what atomic writes need. */
  writes(directory: string): WriteReport;
}

/** The name of a command. */
export type CommandName = keyof Commands;

/** A command, as one line. */
export type Request = [id: number, name: CommandName, ...args: unknown[]];

/** A reply, as one line. */
export type Reply =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: ErrorReport };
