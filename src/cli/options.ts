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
} from "./exit_status.ts";
import type { LockerSettings } from "../../ffi/types.ts";
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
  { names: ["quiet"], letters: ["q"], help: "do not report waits" },
  {
    names: ["verbose"],
    letters: [],
    help: "report how long the wait took, and conflicts",
  },
  { names: ["help"], letters: ["h"], help: "show this help" },
  { names: ["version"], letters: ["V"], help: "show the version" },
];

/** What to lock. */
export type Target =
  | { readonly fd: number }
  | {
    readonly file: string;
    readonly program: string;
    readonly args: readonly string[];
  };

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
  const settings = {
    kind: "exclusive" as Invocation["kind"],
    timeout: Infinity,
    conflictStatus: CONFLICT,
  };
  const flags = new Set<string>();
  for (const [name, value] of options) {
    if (name === "help" || name === "version") return name;
    const kind = KINDS.find((kind) => kind === name);
    if (kind) settings.kind = kind;
    else if (name === "timeout") settings.timeout = parseSeconds(value);
    else if (name === "conflict-exit-code") {
      settings.conflictStatus = parseStatus(value);
    } else flags.add(name);
  }
  if (flags.has("no-fork") && flags.has("close")) {
    throw new UsageError(
      "the --no-fork and --close options are incompatible",
    );
  }
  const target = parseTarget(rest, shell);
  if (settings.timeout < 0) {
    throw new Failure(OS_ERROR, "cannot set up timer: Invalid argument");
  }
  return {
    ...settings,
    timeout: flags.has("nonblock") ? 0 : settings.timeout,
    target,
    close: flags.has("close"),
    noFork: flags.has("no-fork"),
    locker: { name: flags.has("fcntl") ? "ofd" : "flock" },
    quiet: flags.has("quiet"),
    verbose: flags.has("verbose"),
  };
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
