/**
 * The options of the command: the table from which the help is made, and their
 * checks.
 *
 * @module
 */

import {
  CONFLICT,
  Failure,
  OS_ERROR,
  UsageError,
  usageError,
} from "../exit_status.ts";
import type { LockerSettings } from "../../../ffi/types.ts";
import { getopt } from "./getopt.ts";
import type { Option } from "./getopt.ts";

/** Options in the order of the help. */
export const OPTIONS: readonly Option[] = [
  { names: ["shared"], letters: ["s"], help: "let other readers in, too" },
  {
    names: ["exclusive"],
    letters: ["x", "e"],
    help: "exclude all others (default)",
  },
  {
    names: ["nonblock", "nb", "nonblocking"],
    letters: ["n"],
    help: "fail instead of waiting",
  },
  {
    names: ["timeout", "wait"],
    letters: ["w"],
    value: "SECONDS",
    help: "fail after this time; 0 is -n",
  },
  {
    names: ["conflict-exit-code"],
    letters: ["E"],
    value: "STATUS",
    help: "exit status if -n or -w fails (default 1)",
  },
  {
    names: ["close"],
    letters: ["o"],
    help: "do not let the command inherit the lock",
  },
  {
    names: ["no-fork"],
    letters: ["F"],
    help: "become the command instead of starting it",
    details: "Not with --close, because nothing would hold the lock then.",
  },
  {
    names: ["unlock"],
    letters: ["u"],
    help: "unlock (a file descriptor)",
  },
  {
    names: ["fcntl"],
    letters: [],
    help: "lock with fcntl(2) instead of flock(2)",
  },
  {
    names: ["range"],
    letters: [],
    value: "START:LENGTH",
    help: "lock these bytes only, with fcntl(2)",
  },
  {
    names: ["semaphore"],
    letters: [],
    value: "N",
    help: "let N in: FILE.00.lock, FILE.01.lock, ...",
    details: "All must name the same N. With --redis, FILE is a name.",
  },
  {
    names: ["temporary"],
    letters: [],
    help: "remove FILE when the lock is released",
  },
  {
    names: ["pid-file"],
    letters: [],
    help: "write the PID of the command to FILE",
    details: "The lock is on FILE.lock. Both files are removed at the end.",
  },
  {
    names: ["redis"],
    letters: [],
    value: "URL",
    help: "FILE is the name of a lock in Redis",
    details: "If the connection is lost, the lock is, too: the command gets " +
      "SIGTERM, and the exit status is 75. Signals to portalock are passed on.",
  },
  {
    names: ["info"],
    letters: [],
    value: "JSON",
    help: "show this to other processes (with --redis)",
  },
  {
    names: ["kill-after"],
    letters: [],
    value: "SECONDS",
    help: "from SIGTERM to SIGKILL if it is lost (10)",
  },
  { names: ["quiet"], letters: ["q"], help: "do not report waits" },
  {
    names: ["verbose"],
    letters: [],
    help: "report the time of the wait, and conflicts",
  },
  { names: ["help"], letters: ["h"], help: "show this help" },
  { names: ["version"], letters: ["V"], help: "show the version" },
];

/** The options of `portalock status`. */
export const STATUS_OPTIONS: readonly Option[] = [
  {
    names: ["redis"],
    letters: [],
    value: "URL",
    help: "the arguments are names of locks in Redis",
  },
  {
    names: ["semaphore"],
    letters: [],
    value: "N",
    help: "the arguments are semaphores of N holders",
  },
  {
    names: ["pid-file"],
    letters: [],
    help: "the arguments are PID files",
  },
  { names: ["watch"], letters: [], help: "look again every second" },
  { names: ["json"], letters: [], help: "print JSON" },
  { names: ["help"], letters: ["h"], help: "show this help" },
];

/** The options of `portalock doctor`. */
export const DOCTOR_OPTIONS: readonly Option[] = [
  {
    names: ["fcntl"],
    letters: [],
    help: "record locks of fcntl(2) decide, not flock(2)",
  },
  { names: ["json"], letters: [], help: "print JSON" },
  { names: ["help"], letters: ["h"], help: "show this help" },
];

/** What to lock. */
export type Target =
  | { readonly fd: number }
  | {
    readonly file: string;
    readonly program: string;
    readonly args: readonly string[];
  };

/** Which class of the library locks. */
export type LockClass =
  | "file"
  | "temporary"
  | "pid"
  | { readonly maximum: number };

/** Where a lock in Redis is. */
export interface RedisSettings {
  readonly url: string;
  readonly info: unknown;
}

/** What to do with it. */
export interface Invocation {
  readonly target: Target;
  readonly kind: "exclusive" | "shared" | "unlock";
  /** How long to wait, in milliseconds. */
  readonly timeout: number;
  readonly conflictStatus: number;
  /** Whether the command does not inherit the descriptor of the lock. */
  readonly close: boolean;
  /** Whether this process becomes the command. */
  readonly noFork: boolean;
  readonly locker: LockerSettings;
  readonly lockClass: LockClass;
  readonly redis: RedisSettings | undefined;
  /** From SIGTERM to SIGKILL if the lock is lost, in milliseconds. */
  readonly killAfter: number;
  readonly quiet: boolean;
  readonly verbose: boolean;
}

/** A command line that only prints something. */
export type Information = "help" | "version";

const KINDS = ["exclusive", "shared", "unlock"] as const;

/**
 * Parses the command line of the forms of flock(1).
 *
 * @param shell The program that runs the lines of `-c`.
 * @throws {UsageError} If it is wrong.
 */
export function parseInvocation(
  args: readonly string[],
  shell: string,
): Invocation | Information {
  const { options, rest } = getopt(args, OPTIONS);
  const values = new Map<string, string>();
  let kind: Invocation["kind"] = "exclusive";
  for (const [name, value] of options) {
    if (name === "help" || name === "version") return name;
    PARSERS[name]?.(value);
    values.set(name, value);
    kind = KINDS.find((each) => each === name) ?? kind;
  }
  const parse = <T>(name: string, parser: (text: string) => T, other: T): T => {
    const value = values.get(name);
    return value === undefined ? other : parser(value);
  };
  const timeout = parse("timeout", parseSeconds, Infinity);
  const url = values.get("redis");
  const invocation: Invocation = {
    kind,
    target: parseTarget(rest, shell),
    timeout: values.has("nonblock") ? 0 : timeout,
    conflictStatus: parse("conflict-exit-code", parseStatus, CONFLICT),
    close: values.has("close"),
    noFork: values.has("no-fork"),
    locker: parse("range", parseRange, {
      name: values.has("fcntl") ? "ofd" : "flock",
    }),
    lockClass: values.has("temporary")
      ? "temporary"
      : values.has("pid-file")
      ? "pid"
      : parse<LockClass>("semaphore", parseMaximum, "file"),
    redis: url === undefined
      ? undefined
      : { url, info: parse<unknown>("info", parseJson, undefined) },
    killAfter: parse("kill-after", parseSeconds, KILL_AFTER_MS),
    quiet: values.has("quiet"),
    verbose: values.has("verbose"),
  };
  checkCombination(new Set(values.keys()), invocation);
  if (timeout < 0) {
    throw new Failure(OS_ERROR, "cannot set up timer: Invalid argument");
  }
  return invocation;
}

/** The time from SIGTERM to SIGKILL, in milliseconds. */
const KILL_AFTER_MS = 10_000;

/** Checks each value, also one that a later value replaces. */
const PARSERS: Readonly<Record<string, (text: string) => unknown>> = {
  "timeout": parseSeconds,
  "conflict-exit-code": parseStatus,
  "range": parseRange,
  "semaphore": parseMaximum,
  "info": parseJson,
  "kill-after": parseSeconds,
};

/** Options of which a lock has one at most. */
const EXCLUSIVE_OPTIONS: readonly (readonly string[])[] = [
  ["no-fork", "close"],
  ["temporary", "pid-file", "semaphore", "fcntl"],
  ["temporary", "pid-file", "semaphore", "range"],
  ["temporary", "redis"],
  ["pid-file", "redis"],
  ["fcntl", "redis"],
  ["range", "redis"],
  ["no-fork", "redis"],
  ["pid-file", "shared"],
  ["semaphore", "shared"],
];

function checkCombination(
  names: ReadonlySet<string>,
  { kind, target, lockClass, redis }: Invocation,
): void {
  for (const group of EXCLUSIVE_OPTIONS) {
    const given = group.filter((name) => names.has(name));
    if (given.length < 2) continue;
    throw new UsageError(
      `the --${given[0]} and --${given[1]} options are incompatible`,
    );
  }
  for (const name of ["info", "kill-after"]) {
    if (names.has(name) && !redis) {
      throw new UsageError(`--${name} requires --redis`);
    }
  }
  if (lockClass === "file" && !redis) return;
  if ("fd" in target) throw new UsageError("this lock requires a command");
  if (kind === "unlock") {
    throw new UsageError("--unlock requires a file descriptor");
  }
}

function parseTarget(rest: readonly string[], shell: string): Target {
  const [file, program, ...args] = rest;
  if (file === undefined) {
    throw usageError("requires a file descriptor, a file or a directory");
  }
  if (program === undefined) return { fd: parseFd(file) };
  if (program !== "-c" && program !== "--command") {
    return { file, program, args };
  }
  const [line, ...others] = args;
  if (line === undefined || others.length > 0) {
    throw new UsageError(`${program} requires exactly one command argument`);
  }
  return { file, program: shell, args: ["-c", line] };
}

/** The largest number of a descriptor. */
const MAX_INT = 2 ** 31 - 1;

const isInteger = (text: string) => /^\s*[-+]?\d+$/.test(text);

function parseFd(text: string): number {
  const fd = Number(text);
  if (!isInteger(text)) {
    throw new UsageError(
      `bad file descriptor: '${text}' (to lock a file, name a command, too)`,
    );
  }
  if (Math.abs(fd) > MAX_INT) {
    throw new UsageError(
      `bad file descriptor: '${text}': Numerical result out of range`,
    );
  }
  return fd;
}

/** Parses the number of holders of a semaphore. */
export function parseMaximum(text: string): { maximum: number } {
  const maximum = Number(text);
  if (/^\d+$/.test(text) && maximum >= 1) return { maximum };
  throw new UsageError(`invalid number of holders: '${text}'`);
}

function parseRange(text: string): LockerSettings {
  const [, start, length] = /^(\d+):(\d+)$/.exec(text) ?? [];
  const range = { start: Number(start), length: Number(length) };
  if (range.length >= 1 && Number.isSafeInteger(range.start + range.length)) {
    return { name: "ofd", range };
  }
  throw new UsageError(
    `invalid range: '${text}' (expected START:LENGTH, in bytes)`,
  );
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new UsageError(`invalid JSON: '${text}'`);
  }
}

function parseStatus(text: string): number {
  const status = Number(text);
  if (!isInteger(text)) throw new UsageError(`invalid exit code: '${text}'`);
  if (status < 0 || status > 255) {
    throw new UsageError("exit code out of range (expected 0 to 255)");
  }
  return status;
}

/** Parses what strtod(3) parses, without its hexadecimal and infinite numbers. */
function parseSeconds(text: string): number {
  if (!/^\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text)) {
    throw new UsageError(`invalid timeout value: '${text}'`);
  }
  return Number(text) * 1000;
}
