/**
 * What a runtime changes when it starts, and a program that it starts must not
 * inherit: signals, and the limit of open files. And the environment, of which the
 * runtime knows only what is text.
 */

import { cString } from "../runtime/memory.ts";
import type { Host } from "../runtime/host.ts";
import type { CFunction, FfiRuntime, Signature } from "../types.ts";
import { SIG_DFL, SIG_IGN, SIGACTION_SIZE } from "./constants.ts";
import type { PosixConstants } from "./constants.ts";

/** signal.h, the same on Linux and macOS. */
const SIGHUP = 1;
const SIGINT = 2;
const SIGPIPE = 13;
const SIGTERM = 15;
const SIGXFSZ = 25;

/** sys/resource.h of Linux. */
const RLIMIT_NOFILE = 7;

/** A line of /proc/PID/limits: the soft and the hard limit. */
const FILE_LIMIT = /^Max open files +(\d+) +(\d+)/m;

/** How many bytes of a file are read at a time. */
const CHUNK_SIZE = 4096;

/** The numbers that differ between the systems. */
const LINUX = { SIGUSR1: 10, SIGCHLD: 17 };
const DARWIN: typeof LINUX = { SIGUSR1: 30, SIGCHLD: 20 };

/** Environment variables. Those without a value are not set. */
export type Variables = Readonly<Record<string, string | undefined>>;

type CallerFunction = "read" | "strdup" | "signal" | "sigaction" | "setrlimit";

/** The functions of the C library. `prlimit` is one of Linux. */
export type CallerFunctions =
  & Record<CallerFunction, CFunction>
  & { readonly prlimit?: CFunction };

/** How {@linkcode CallerFunctions} are called. */
export function callerSignatures(
  { linux }: PosixConstants,
): Record<CallerFunction, Signature> {
  return {
    read: { parameters: ["i32", "buffer", "usize"], result: "i64" },
    strdup: { parameters: ["buffer"], result: "i64" },
    signal: { parameters: ["i32", "usize"], result: "i64" },
    sigaction: { parameters: ["i32", "usize", "buffer"], result: "i32" },
    setrlimit: { parameters: ["i32", "buffer"], result: "i32" },
    ...linux
      ? {
        prlimit: {
          parameters: ["i32", "i32", "usize", "buffer"],
          result: "i32",
        },
      }
      : {},
  };
}

/** Reads files. The functions return a negative errno if they fail. */
interface FileReader {
  open(path: string): number;
  read(fd: number, buffer: Uint8Array): number;
  close(fd: number): void;
}

/** What the caller of this process gave to it. */
export interface Caller {
  /**
   * Gives signals the effect that they had when the runtime started: the default
   * one, or none if the caller ignores them. Also removes the listeners of
   * `process.on`. SIGCHLD always gets the default effect, because wait(2) fails
   * if it is ignored.
   *
   * The first call must precede the first import of a `node:` module. The
   * runtimes catch signals and forget that they were ignored: Node when it
   * starts, Deno while it waits. Node resets the terminal at
   * SIGINT and SIGTERM. Node and Deno open the port of their debuggers at SIGUSR1.
   *
   * @param kept Signals that are left as they are.
   */
  resetSignals(kept?: readonly number[]): void;
  /**
   * Whether the caller of this process ignores a signal that
   * {@linkcode Caller.resetSignals} resets. Node cannot find out.
   */
  ignores(signal: number): boolean;
  /**
   * Runs a function that starts a program, while signals and the limit of open
   * files are those of the caller. Runtimes ignore SIGPIPE, and Node and Bun also
   * SIGXFSZ. A program inherits that.
   */
  run(body: () => number): number;
  /**
   * The environment that the caller gave to this process, with other variables.
   * Its bytes need not be UTF-8, and its entries need not be assignments.
   */
  environment(added: Variables): Uint8Array;
  /** An array of C strings, which lives as long as this process. */
  strings(texts: readonly Uint8Array[]): Uint8Array;
}

/** Splits a buffer of strings of which each ends with a zero byte. */
function splitStrings(bytes: Uint8Array): Uint8Array[] {
  const strings: Uint8Array[] = [];
  for (let start = 0; start < bytes.length;) {
    const end = bytes.indexOf(0, start) + 1 || bytes.length;
    strings.push(bytes.subarray(start, end));
    start = end;
  }
  return strings;
}

/** The entries of an environment. */
function entries(variables: Variables): Uint8Array[] {
  return Object.entries(variables)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => cString(`${name}=${value}`));
}

function isNamed(entry: Uint8Array, name: string): boolean {
  const start = entry.subarray(0, name.length + 1);
  return new TextDecoder().decode(start) === `${name}=`;
}

/** Finds out what the caller gave to this process. */
export function callerOf(
  runtime: Pick<FfiRuntime, "bind">,
  system: PosixConstants,
  host: Pick<Host, "environment" | "parentPid">,
  c: CallerFunctions,
  files: FileReader,
): Caller {
  const own = system.linux ? LINUX : DARWIN;
  const caught = [SIGHUP, SIGINT, SIGTERM, own.SIGUSR1];
  let ignored: readonly number[] | undefined;

  function ignoredByCaller(): readonly number[] {
    if (ignored) return ignored;
    const action = new BigUint64Array(SIGACTION_SIZE / 8);
    const bytes = new Uint8Array(action.buffer);
    return ignored = caught.filter((signal) => {
      c.sigaction(signal, 0n, bytes);
      return action[0] === SIG_IGN;
    });
  }

  /** Reads a file of proc(5). Returns `null` if that fails. */
  function readFile(path: string): Uint8Array | null {
    const fd = files.open(path);
    if (fd < 0) return null;
    let bytes = new Uint8Array(CHUNK_SIZE);
    let length = 0;
    for (;;) {
      const rest = bytes.subarray(length);
      const count = files.read(fd, rest);
      if (count <= 0) {
        files.close(fd);
        return count < 0 ? null : bytes.subarray(0, length);
      }
      length += count;
      if (length < bytes.length) continue;
      const larger = new Uint8Array(bytes.length * 2);
      larger.set(bytes);
      bytes = larger;
    }
  }

  /** Returns the soft and the hard limit of open files of a process. */
  function fileLimit(pid: number): BigUint64Array | undefined {
    const limit = new BigUint64Array(2);
    const bytes = new Uint8Array(limit.buffer);
    const result = c.prlimit?.(pid, RLIMIT_NOFILE, 0n, bytes);
    if (result === 0) return limit;
    // It is a process of another user, such as cron(8).
    const file = readFile(`/proc/${pid}/limits`);
    const match = file && FILE_LIMIT.exec(new TextDecoder().decode(file));
    return match ? BigUint64Array.from(match.slice(1), BigInt) : undefined;
  }

  function setFileLimit(limit: BigUint64Array): void {
    c.setrlimit(RLIMIT_NOFILE, new Uint8Array(limit.buffer));
  }

  /**
   * Runs a function while the limit of open files is that of the caller. Each
   * runtime raises its own soft limit to the hard one when it starts. A program
   * that calls select(2), or that closes every possible descriptor, needs the
   * lower one.
   *
   * The system does not know the former limit. It was that of the parent process,
   * except if another program changed it and then became this process. Mostly,
   * ulimit changes both limits, so the hard limits are compared.
   */
  function withFileLimitOfCaller(body: () => number): number {
    if (!system.linux) return body();
    const raised = fileLimit(0);
    const former = fileLimit(host.parentPid());
    if (!raised || !former || raised[1] !== former[1]) return body();
    if (raised[0]! <= former[0]!) return body();
    setFileLimit(BigUint64Array.of(former[0]!, raised[1]!));
    const result = body();
    setFileLimit(raised);
    return result;
  }

  function run(body: () => number): number {
    for (const number of [SIGPIPE, SIGXFSZ]) c.signal(number, SIG_DFL);
    const result = withFileLimitOfCaller(body);
    for (const number of [SIGPIPE, SIGXFSZ]) c.signal(number, SIG_IGN);
    return result;
  }

  function environment(added: Variables): Uint8Array {
    if (!system.linux) return environmentOfDarwin(added);
    const bytes = readFile("/proc/self/environ");
    if (!bytes) {
      return strings(entries({ ...host.environment(), ...added }));
    }
    const names = Object.keys(added);
    const kept = splitStrings(bytes).filter((entry) =>
      !names.some((name) => isNamed(entry, name))
    );
    return strings([...kept, ...entries(added)]);
  }

  function environmentOfDarwin(added: Variables): Uint8Array {
    // Not memcpy(3), which the compiler of Bun 1.2.0 defines itself.
    const { setenv, unsetenv, _NSGetEnviron, bcopy } = runtime.bind(
      system.libc,
      {
        setenv: { parameters: ["buffer", "buffer", "i32"], result: "i32" },
        unsetenv: { parameters: ["buffer"], result: "i32" },
        _NSGetEnviron: { parameters: [], result: "i64" },
        bcopy: { parameters: ["usize", "buffer", "usize"], result: "i32" },
      },
    );
    for (const [name, value] of Object.entries(added)) {
      if (value === undefined) unsetenv(cString(name));
      else setenv(cString(name), cString(value), 1);
    }
    const pointer = new BigUint64Array(1);
    const read = (address: bigint) => {
      bcopy(address, new Uint8Array(pointer.buffer), 8n);
      return pointer[0]!;
    };
    const strings: bigint[] = [];
    for (let entry = read(BigInt(_NSGetEnviron())); read(entry); entry += 8n) {
      strings.push(pointer[0]!);
    }
    return new Uint8Array(new BigUint64Array([...strings, 0n]).buffer);
  }

  function strings(texts: readonly Uint8Array[]): Uint8Array {
    const pointers = new BigInt64Array(texts.length + 1);
    texts.forEach((text, index) => {
      pointers[index] = BigInt(c.strdup(text));
    });
    return new Uint8Array(pointers.buffer);
  }

  return {
    resetSignals(kept = []) {
      const ignored = ignoredByCaller();
      for (const signal of caught.filter((each) => !kept.includes(each))) {
        c.signal(signal, ignored.includes(signal) ? SIG_IGN : SIG_DFL);
      }
      c.signal(own.SIGCHLD, SIG_DFL);
    },
    ignores: (signal) => ignoredByCaller().includes(signal),
    run,
    environment,
    strings,
  };
}
