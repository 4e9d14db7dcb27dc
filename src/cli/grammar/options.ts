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
  {
    names: ["shared"],
    letters: ["s"],
    help: "share with readers",
    details: "Share the lock with other holders that use this option.",
  },
  {
    names: ["exclusive"],
    letters: ["x", "e"],
    help: "exclude all (default)",
    details: "Exclude all other holders. This is the default.",
  },
  {
    names: ["nonblock", "nb", "nonblocking"],
    letters: ["n"],
    help: "fail, do not wait",
    details: "Fail with status 1, or that of -E, if the lock is not free.",
  },
  {
    names: ["timeout", "wait"],
    letters: ["w"],
    value: "SECONDS",
    help: "fail after this time",
    details: "Fail with status 1, or that of -E, if the lock is not free in " +
      "this time. Fractions are accepted. 0 is the same as -n.",
  },
  {
    names: ["conflict-exit-code"],
    letters: ["E"],
    value: "STATUS",
    help: "status of -n and -w",
    details: "The exit status if -n or -w fails, from 0 to 255. The default " +
      "is 1.",
  },
  {
    names: ["close"],
    letters: ["o"],
    help: "close in COMMAND",
    details: "Close the descriptor of the lock in the command. The lock then " +
      "ends with portalock, and a background process of the command does not " +
      "keep it.",
  },
  {
    names: ["no-fork"],
    letters: ["F"],
    help: "become COMMAND",
    details: "Become the command instead of starting it. No memory is used " +
      "for portalock while it runs, and signals reach it directly. Not with " +
      "--close, because nothing would hold the lock then.",
  },
  {
    names: ["unlock"],
    letters: ["u"],
    help: "unlock DESCRIPTOR",
    details: "Release the lock of a descriptor. Closing it does so, too.",
  },
  {
    names: ["verbose"],
    letters: [],
    help: "report time, conflict",
    details: "Print how long the lock took, what is executed, and conflicts.",
  },
  {
    names: ["quiet"],
    letters: ["q"],
    isAddition: true,
    help: "do not report waits",
    details: "Do not report waits on standard error.",
  },
  {
    names: ["fcntl"],
    letters: [],
    help: "lock with fcntl(2)",
    details: "Lock with fcntl(2), by a record lock of the open file, instead " +
      "of flock(2). util-linux 2.41 has this option.",
  },
  {
    names: ["range"],
    letters: [],
    value: "START:LENGTH",
    isAddition: true,
    help: "lock bytes only",
    details: "Lock these bytes of the file only, with fcntl(2).",
  },
  {
    names: ["semaphore"],
    letters: [],
    value: "N",
    isAddition: true,
    help: "at most N holders",
    details: "Admit at most N holders. They lock FILE.00.lock, FILE.01.lock " +
      "and so on, which stay. All must name the same N. With --redis, FILE is " +
      "a name.",
  },
  {
    names: ["temporary"],
    letters: [],
    isAddition: true,
    help: "remove FILE after",
    details: "Remove FILE when the lock is released. FILE must be empty.",
  },
  {
    names: ["pid-file"],
    letters: [],
    isAddition: true,
    help: "write PID to FILE",
    details:
      "Write the PID of the command to FILE. The lock is on FILE.lock. " +
      "Both files are removed when the lock is released.",
  },
  {
    names: ["redis"],
    letters: [],
    value: "URL",
    isAddition: true,
    help: "FILE is in Redis",
    details:
      "FILE is the name of a lock in Redis, which all machines see. If " +
      "the connection is lost, the lock is, too: the command gets SIGTERM, and " +
      "the exit status is 75.",
  },
  {
    names: ["info"],
    letters: [],
    value: "JSON",
    isAddition: true,
    help: "show it to waiters",
    details: "Show this to the processes that wait for the lock, and to " +
      "portalock status. Requires --redis.",
  },
  {
    names: ["kill-after"],
    letters: [],
    value: "SECONDS",
    isAddition: true,
    help: "SIGKILL after loss",
    details: "How many seconds after SIGTERM the command gets SIGKILL if the " +
      'lock is lost. The default is 10; "inf" omits SIGKILL. Requires --redis.',
  },
  {
    names: ["help"],
    letters: ["h"],
    isFinal: true,
    help: "show this help",
    details: "Print the help.",
  },
  {
    names: ["version"],
    letters: ["V"],
    isFinal: true,
    help: "show the version",
    details: "Print the version.",
  },
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
  { names: ["help"], letters: ["h"], isFinal: true, help: "show this help" },
];

/** The options of `portalock doctor`. */
export const DOCTOR_OPTIONS: readonly Option[] = [
  {
    names: ["fcntl"],
    letters: [],
    help: "record locks of fcntl(2) decide, not flock(2)",
  },
  { names: ["json"], letters: [], help: "print JSON" },
  { names: ["help"], letters: ["h"], isFinal: true, help: "show this help" },
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

/** An {@linkcode Invocation} while its options are read. */
type Draft =
  & {
    -readonly [Key in keyof Omit<Invocation, "target" | "redis">]:
      Invocation[Key];
  }
  & { nonblock: boolean; url?: string; info?: unknown };

/** From SIGTERM to SIGKILL, in milliseconds. */
const KILL_AFTER_MS = 10_000;

/** What each option changes. A value is checked, also if a later one counts. */
const SETTERS: Readonly<Record<string, (draft: Draft, value: string) => void>> =
  {
    "shared": (draft) => draft.kind = "shared",
    "exclusive": (draft) => draft.kind = "exclusive",
    "unlock": (draft) => draft.kind = "unlock",
    "nonblock": (draft) => draft.nonblock = true,
    "timeout": (draft, value) => draft.timeout = parseTimeout(value),
    "conflict-exit-code": (draft, value) =>
      draft.conflictStatus = parseStatus(value),
    "close": (draft) => draft.close = true,
    "no-fork": (draft) => draft.noFork = true,
    "verbose": (draft) => draft.verbose = true,
    "quiet": (draft) => draft.quiet = true,
    "fcntl": (draft) => draft.locker = { ...draft.locker, name: "ofd" },
    "range": (draft, value) => draft.locker = parseRange(value),
    "temporary": (draft) => draft.lockClass = "temporary",
    "pid-file": (draft) => draft.lockClass = "pid",
    "semaphore": (draft, value) => draft.lockClass = parseMaximum(value),
    "redis": (draft, value) => draft.url = value,
    "info": (draft, value) => draft.info = parseJson(value),
    "kill-after": (draft, value) => draft.killAfter = parseKillAfter(value),
  };

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
  const draft: Draft = {
    kind: "exclusive",
    nonblock: false,
    timeout: Infinity,
    conflictStatus: CONFLICT,
    close: false,
    noFork: false,
    locker: { name: "flock" },
    lockClass: "file",
    killAfter: KILL_AFTER_MS,
    quiet: false,
    verbose: false,
  };
  const names = new Set<string>();
  for (const [name, value] of options) {
    checkExclusive(name, names);
    if (name === "help" || name === "version") return name;
    names.add(name);
    SETTERS[name]!(draft, value);
  }
  const { nonblock, url, info, ...settings } = draft;
  const invocation: Invocation = {
    ...settings,
    target: parseTarget(rest, shell),
    timeout: nonblock ? 0 : settings.timeout,
    redis: url === undefined ? undefined : { url, info },
  };
  checkCombination(names, invocation);
  // As timer_settime(2), which flock(1) calls also with -n.
  if (
    names.has("timeout") &&
    !(settings.timeout >= 0 && settings.timeout < MAX_TIMEOUT_MS)
  ) {
    throw new Failure(OS_ERROR, "cannot set up timer: Invalid argument");
  }
  return invocation;
}

/** Options of which a lock has one at most. */
const EXCLUSIVE_OPTIONS: readonly (readonly string[])[] = [
  ["no-fork", "close"],
  ["temporary", "pid-file", "semaphore", "fcntl"],
  ["temporary", "pid-file", "semaphore", "range"],
  ["temporary", "redis"],
  ["pid-file", "redis"],
  ["fcntl", "redis"],
  ["range", "redis"],
  ["pid-file", "shared"],
  ["semaphore", "shared"],
];

/** Rejects an option that contradicts one of the others, as flock(1) does. */
function checkExclusive(name: string, others: ReadonlySet<string>): void {
  for (const group of EXCLUSIVE_OPTIONS) {
    const other = group.find((each) => each !== name && others.has(each));
    if (!group.includes(name) || other === undefined) continue;
    throw new UsageError(
      `the --${other} and --${name} options are incompatible`,
    );
  }
}

function checkCombination(
  names: ReadonlySet<string>,
  { kind, target, lockClass, redis }: Invocation,
): void {
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
  const [file, ...words] = rest;
  if (file === undefined) {
    throw usageError("requires a file descriptor, a file or a directory");
  }
  // Runners such as npx take it. flock(1) would run a program of this name.
  const isMarked = words[0] === "--" && words.length > 1;
  const [program, ...args] = isMarked ? words.slice(1) : words;
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

/** The largest time_t, in milliseconds. */
const MAX_TIMEOUT_MS = 2 ** 63 * 1000;

function parseTimeout(text: string): number {
  const seconds = parseNumber(text);
  if (seconds !== undefined) return seconds * 1000;
  throw new UsageError(`invalid timeout value: '${text}'`);
}

function parseKillAfter(text: string): number {
  const seconds = parseNumber(text);
  if (seconds !== undefined && seconds >= 0) return seconds * 1000;
  throw new UsageError(
    `invalid --kill-after: '${text}' (expected seconds, or inf)`,
  );
}

/** Parses a number as strtod(3) does. Returns `undefined` if it is not one. */
function parseNumber(text: string): number | undefined {
  const [, sign, number = ""] = /^\s*([-+]?)(\S+)$/.exec(text) ?? [];
  const size = parseDecimal(number) ?? parseHexadecimal(number) ??
    parseSpecial(number);
  return sign === "-" && size !== undefined ? -size : size;
}

function parseDecimal(text: string): number | undefined {
  const isDecimal = /^(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text);
  return isDecimal ? Number(text) : undefined;
}

/** Parses a hexadecimal number of C: `0x1.8p3` is 12. */
function parseHexadecimal(text: string): number | undefined {
  const [, whole, fraction = "", exponent = "0"] =
    /^0x([\da-f]*)\.?([\da-f]*)(?:p([-+]?\d+))?$/i.exec(text) ?? [];
  if (whole === undefined || whole + fraction === "") return undefined;
  const digits = Number(`0x${whole}${fraction}`);
  return digits * 2 ** (Number(exponent) - 4 * fraction.length);
}

function parseSpecial(text: string): number | undefined {
  if (/^inf(inity)?$/i.test(text)) return Infinity;
  return /^nan(\(\w*\))?$/i.test(text) ? NaN : undefined;
}
