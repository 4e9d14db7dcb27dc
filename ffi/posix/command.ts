/**
 * What the command calls in the C library: it opens and locks a file, starts a
 * program that inherits the descriptor, and waits for its end.
 *
 * - `node:child_process` gives a child no descriptor above 2 on Deno, and
 *   another number than the parent's on Node. It resets the signals that the
 *   parent ignores, so that nohup(1) has no effect.
 * - fork(2) would copy one of the threads of the runtime. The child could wait
 *   forever for memory that another thread had locked. posix_spawn(3) is safe.
 *
 * The functions return a negative errno if they fail, as system calls do.
 */

import { asBytes, cString } from "../runtime/memory.ts";
import { F_GETFL, F_SETFL, LOCK_NB } from "./constants.ts";
import type { PosixConstants } from "./constants.ts";
import type { Host } from "../runtime/host.ts";
import type { CFunction, FfiRuntime, Signature } from "../types.ts";

/** What differs between the systems: fcntl.h, errno.h, signal.h. */
const LINUX = {
  O_CREAT: 0o100,
  O_NOCTTY: 0o400,
  O_CLOEXEC: 0o2000000,
  O_NONBLOCK: 0o4000,
  ENOLCK: 37,
  SIGUSR1: 10,
  SIGCHLD: 17,
};
const DARWIN: typeof LINUX = {
  O_CREAT: 0x200,
  O_NOCTTY: 0x20000,
  O_CLOEXEC: 0x1000000,
  O_NONBLOCK: 0x4,
  ENOLCK: 77,
  SIGUSR1: 30,
  SIGCHLD: 20,
};

/** fcntl.h, the same on Linux and macOS. */
const O_RDWR = 2;
const O_ACCMODE = 3;
const F_GETFD = 1;
const F_SETFD = 2;
const FD_CLOEXEC = 1;

/** signal.h, the same on Linux and macOS. */
const SIGHUP = 1;
const SIGINT = 2;
const SIGPIPE = 13;
const SIGTERM = 15;
const SIGXFSZ = 25;
const SIG_DFL = 0n;
const SIG_IGN = 1n;

/** Large enough for a `struct sigaction`, which begins with the handler. */
const SIGACTION_SIZE = 256;

/** sys/resource.h of Linux. */
const RLIMIT_NOFILE = 7;

/** A line of /proc/PID/limits: the soft and the hard limit. */
const FILE_LIMIT = /^Max open files +(\d+) +(\d+)/m;

/** How many bytes of a file are read at a time. */
const CHUNK_SIZE = 4096;

/** fcntl.h of macOS. */
const F_GETPATH = 50;

/** Large enough for the path of any open file. */
const PATH_SIZE = 4096;

/** The number of standard error, the last standard stream. */
const STDERR = 2;

/**
 * Bun opens /proc/self/statm now and then, without `FD_CLOEXEC`. No caller locks
 * what is here.
 */
const PROCESS_FILES = "/proc/";

/** What the runtimes open for a standard stream that is closed. */
const NULL_DEVICE = "/dev/null";

/** poll.h: a `struct pollfd` has 32 bits for the descriptor, and 16 for each of
 * the requested and the returned events. */
const POLLNVAL = 0x20;

/** Where a program is if the environment does not say. */
const DEFAULT_PATH = "/bin:/usr/bin";

/** What execvp(3) runs a script with that does not name its interpreter. */
const SHELL = "/bin/sh";

/** Large enough for the text of any error. */
const TEXT_SIZE = 256;

/** errno.h, the same on Linux and macOS. */
export const ERRNO = {
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENOEXEC: 8,
  EBADF: 9,
  ENOMEM: 12,
  EACCES: 13,
  EISDIR: 21,
  ENFILE: 23,
  EMFILE: 24,
  ENOSPC: 28,
  EROFS: 30,
} as const;

/** How the file of the lock is opened. */
export interface LockFileMode {
  /** For writing, too. */
  readonly write: boolean;
  readonly create: boolean;
}

/** Environment variables. */
export type Variables = Readonly<Record<string, string>>;

/** How a process ended. */
export type ProcessEnd =
  | { readonly status: number }
  | { readonly signal: number };

/** Reads what wait(2) reports: WIFSIGNALED, WTERMSIG and WEXITSTATUS. */
export function processEnd(status: number): ProcessEnd {
  const signal = status & 0x7f;
  return signal === 0 ? { status: status >> 8 & 0xff } : { signal };
}

type CommonFunction =
  | "open"
  | "close"
  | "flock"
  | "fcntl"
  | "read"
  | "readlink"
  | "strdup"
  | "signal"
  | "sigaction"
  | "setrlimit"
  | "poll"
  | "posix_spawnp"
  | "waitpid"
  | "_exit";

/** `prlimit` is a function of Linux. */
type Calls =
  & Record<CommonFunction, CFunction>
  & { readonly prlimit?: CFunction };

/** The calls. */
export interface CommandCalls {
  /**
   * Gives signals the effect that they had when the runtime started: the default
   * one, or none if the caller ignores them. Also removes the listeners of
   * `process.on`. SIGCHLD always gets the default effect, because wait(2) fails
   * if it is ignored.
   *
   * The first call must precede the first import of a `node:` module. The
   * runtimes catch signals and forget that they were ignored: Node when it
   * starts, Deno while it waits. Node resets the terminal at
   * SIGINT and SIGTERM, and opens the port of its debugger at SIGUSR1.
   */
  resetSignals(): void;
  /**
   * Whether the caller of this process ignores a signal that
   * {@linkcode CommandCalls.resetSignals} resets. Node cannot find out.
   */
  ignores(signal: number): boolean;
  /**
   * Ends the process without the runtime, which would reset the terminal to what
   * it was when the runtime started. Nothing else runs: no exit listener.
   */
  exit(status: number): never;
  open(path: string, mode: LockFileMode): number;
  close(fd: number): void;
  /** Applies an operation of flock(2). Returns `false` if it would block. */
  flock(fd: number, operation: number): boolean | number;
  /** Whether programs that this process starts get the descriptor. */
  setInherited(fd: number, inherited: boolean): number;
  /**
   * Makes a descriptor blocking if it is a terminal. Node and Bun make terminals
   * non-blocking when they create the standard streams, and old versions of Node
   * do so when `node:process` is imported. Few programs expect that.
   */
  makeTerminalBlocking(fd: number): void;
  /** Returns which of the descriptors from 0 to `count` − 1 may be open. */
  openDescriptors(count: number): number[];
  /**
   * Whether this process inherited a descriptor, as far as can be seen. The
   * runtime opens pipes, sockets and objects without a path for itself. It opens
   * /dev/null, for reading and writing, for each standard stream that is closed.
   *
   * @param marked Whether the runtime has set `FD_CLOEXEC` on all descriptors.
   */
  isInherited(fd: number, marked: boolean): boolean;
  /**
   * Starts a program, found in `PATH`, and returns its PID. The program gets the
   * limit of open files that the caller has, as {@linkcode CommandCalls.exec}
   * does.
   *
   * @param added Variables that its environment has in addition.
   */
  spawn(
    program: string,
    args: readonly string[],
    added?: Variables,
  ): number;
  /** Replaces this process. Returns only if that fails. */
  exec(program: string, args: readonly string[]): number;
  /** Blocks until a child process has ended. */
  wait(pid: number): ProcessEnd | number;
  /** Returns the text of an errno, also if it is negative. */
  errorText(errno: number): string;
  /** Whether an errno means that the system lacks memory or locks. */
  isExhausted(errno: number): boolean;
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
function entries(variables: Readonly<Record<string, string | undefined>>) {
  return Object.entries(variables).map(([name, value]) =>
    cString(`${name}=${value}`)
  );
}

function isNamed(entry: Uint8Array, name: string): boolean {
  const start = entry.subarray(0, name.length + 1);
  return new TextDecoder().decode(start) === `${name}=`;
}

/** Where execvp(3) looks for a program. */
function candidates(program: string, path = DEFAULT_PATH): string[] {
  if (program.includes("/")) return [program];
  return path.split(":").map((directory) => `${directory || "."}/${program}`);
}

/** Binds the calls. */
export function commandCalls(
  runtime: Pick<FfiRuntime, "bind" | "errno">,
  system: PosixConstants,
  host: Pick<Host, "env" | "environment" | "parentPid">,
): CommandCalls {
  const { libc } = system;
  const own = system.linux ? LINUX : DARWIN;
  const padding = Array<bigint>(system.variadicPadding).fill(0n);
  const variadic = padding.map(() => "i64" as const);
  const onlyLinux: Record<string, Signature> = system.linux
    ? {
      prlimit: { parameters: ["i32", "i32", "usize", "buffer"], result: "i32" },
    }
    : {};
  // Bun compiles code for each call of `bind`, so there is one for all functions
  // that are mostly needed.
  const c: Calls = runtime.bind(libc, {
    open: { parameters: ["buffer", "i32", ...variadic, "i64"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
    flock: { parameters: ["i32", "i32"], result: "i32" },
    fcntl: { parameters: ["i32", "i32", ...variadic, "i64"], result: "i32" },
    read: { parameters: ["i32", "buffer", "usize"], result: "i64" },
    readlink: { parameters: ["buffer", "buffer", "usize"], result: "i64" },
    strdup: { parameters: ["buffer"], result: "i64" },
    signal: { parameters: ["i32", "usize"], result: "i64" },
    sigaction: { parameters: ["i32", "usize", "buffer"], result: "i32" },
    setrlimit: { parameters: ["i32", "buffer"], result: "i32" },
    poll: { parameters: ["buffer", "usize", "i32"], result: "i32" },
    ...onlyLinux,
    posix_spawnp: {
      parameters: ["buffer", "buffer", "usize", "usize", "buffer", "buffer"],
      result: "i32",
    },
    waitpid: { parameters: ["i32", "buffer", "i32"], result: "i32" },
    _exit: { parameters: ["i32"], result: "i32" },
  });
  const errno = runtime.errno(libc, system.errnoLocation);

  /** Calls until no signal interrupts it. Returns −errno if it fails. */
  function call(body: () => number | bigint): number {
    for (;;) {
      const result = Number(body());
      if (result >= 0) return result;
      const code = errno();
      if (code !== ERRNO.EINTR) return -code;
    }
  }

  /** An array of C strings, which lives as long as this process. */
  function stringArray(texts: readonly Uint8Array[]): Uint8Array {
    const pointers = new BigInt64Array(texts.length + 1);
    texts.forEach((text, index) => {
      pointers[index] = BigInt(c.strdup(text));
    });
    return new Uint8Array(pointers.buffer);
  }

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

  function open(path: string, flags: number): number {
    return call(() => c.open(cString(path), flags, ...padding, 0o666n));
  }

  /** Reads a file of proc(5). Returns `null` if that fails. */
  function readFile(path: string): Uint8Array | null {
    const fd = open(path, own.O_CLOEXEC);
    if (fd < 0) return null;
    let bytes = new Uint8Array(CHUNK_SIZE);
    let length = 0;
    for (;;) {
      const rest = bytes.subarray(length);
      const count = call(() => c.read(fd, rest, BigInt(rest.length)));
      if (count <= 0) {
        c.close(fd);
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

  /**
   * Runs a function while signals and limits are those of the caller. Runtimes
   * ignore SIGPIPE, and Node and Bun also SIGXFSZ. A program inherits that.
   */
  function asCaller(body: () => number): number {
    for (const number of [SIGPIPE, SIGXFSZ]) c.signal(number, SIG_DFL);
    const result = withFileLimitOfCaller(body);
    for (const number of [SIGPIPE, SIGXFSZ]) c.signal(number, SIG_IGN);
    return result;
  }

  /**
   * The environment that the caller gave to this process, with other variables.
   * Its bytes need not be UTF-8, and its entries need not be assignments.
   */
  function environment(added: Variables): Uint8Array {
    if (!system.linux) return environmentOfDarwin(added);
    const bytes = readFile("/proc/self/environ");
    if (!bytes) {
      return stringArray(entries({ ...host.environment(), ...added }));
    }
    const names = Object.keys(added);
    const kept = splitStrings(bytes).filter((entry) =>
      !names.some((name) => isNamed(entry, name))
    );
    return stringArray([...kept, ...entries(added)]);
  }

  function environmentOfDarwin(added: Variables): Uint8Array {
    // Not memcpy(3), which the compiler of Bun 1.2.0 defines itself.
    const { setenv, _NSGetEnviron, bcopy } = runtime.bind(libc, {
      setenv: { parameters: ["buffer", "buffer", "i32"], result: "i32" },
      _NSGetEnviron: { parameters: [], result: "i64" },
      bcopy: { parameters: ["usize", "buffer", "usize"], result: "i32" },
    });
    for (const [name, value] of Object.entries(added)) {
      setenv(cString(name), cString(value), 1);
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

  /** Starts a program as posix_spawnp(3) does. */
  function start(
    program: string,
    args: readonly string[],
    added: Variables,
  ): number {
    const pid = new Int32Array(1);
    const argv = stringArray([program, ...args].map(cString));
    const env = environment(added);
    const code = asCaller(() =>
      Number(c.posix_spawnp(
        new Uint8Array(pid.buffer),
        cString(program),
        0n,
        0n,
        argv,
        env,
      ))
    );
    return code === 0 ? pid[0]! : -code;
  }

  /** Starts a program as execvp(3) does, which runs scripts without `#!`. */
  function spawn(
    program: string,
    args: readonly string[],
    added: Variables = {},
  ): number {
    const pid = start(program, args, added);
    if (pid !== -ERRNO.ENOEXEC) return pid;
    for (const path of candidates(program, host.env("PATH"))) {
      const result = start(path, args, added);
      if (result === -ERRNO.ENOEXEC) {
        return start(SHELL, [path, ...args], added);
      }
      // Another program may have replaced the file.
      if (result >= 0) return result;
    }
    return pid;
  }

  function flagsOf(fd: number, command: number): number {
    return call(() => c.fcntl(fd, command, ...padding, 0n));
  }

  function setFlags(fd: number, command: number, flags: number): number {
    return call(() => c.fcntl(fd, command, ...padding, BigInt(flags)));
  }

  /** The path of an open file. Pipes and the like have names without a slash. */
  function pathOf(fd: number): string {
    const bytes = new Uint8Array(PATH_SIZE);
    const length = system.linux
      ? Number(
        c.readlink(cString(`/proc/self/fd/${fd}`), bytes, BigInt(PATH_SIZE)),
      )
      : darwinPath(fd, bytes);
    return new TextDecoder().decode(bytes.subarray(0, Math.max(length, 0)));
  }

  function darwinPath(fd: number, bytes: Uint8Array): number {
    const { fcntl } = runtime.bind(libc, {
      fcntl: {
        parameters: ["i32", "i32", ...variadic, "buffer"],
        result: "i32",
      },
    });
    const result = Number(fcntl(fd, F_GETPATH, ...padding, bytes));
    return result < 0 ? 0 : bytes.indexOf(0);
  }

  /** Whether the runtime opened a standard stream because it was closed. */
  function isReplaced(fd: number): boolean {
    return (flagsOf(fd, F_GETFL) & O_ACCMODE) === O_RDWR &&
      pathOf(fd) === NULL_DEVICE;
  }

  const status = new Int32Array(1);
  const statusBytes = new Uint8Array(status.buffer);

  return {
    resetSignals() {
      const ignored = ignoredByCaller();
      for (const signal of caught) {
        c.signal(signal, ignored.includes(signal) ? SIG_IGN : SIG_DFL);
      }
      c.signal(own.SIGCHLD, SIG_DFL);
    },
    ignores: (signal) => ignoredByCaller().includes(signal),
    exit(status) {
      c._exit(status);
      throw new Error("_exit(2) has returned");
    },
    open(path, { write, create }) {
      const flags = (write ? O_RDWR : 0) |
        (create ? own.O_CREAT : 0) | own.O_NOCTTY | own.O_CLOEXEC;
      return open(path, flags);
    },
    close: (fd) => void c.close(fd),
    flock(fd, operation) {
      const result = call(() => c.flock(fd, operation));
      if (result >= 0) return true;
      const busy = operation & LOCK_NB && result === -system.EWOULDBLOCK;
      return busy ? false : result;
    },
    setInherited(fd, inherited) {
      const flags = flagsOf(fd, F_GETFD);
      if (flags < 0) return flags;
      const changed = inherited ? flags & ~FD_CLOEXEC : flags | FD_CLOEXEC;
      return setFlags(fd, F_SETFD, changed);
    },
    makeTerminalBlocking(fd) {
      const flags = flagsOf(fd, F_GETFL);
      if (flags < 0 || (flags & own.O_NONBLOCK) === 0) return;
      const { isatty } = runtime.bind(libc, {
        isatty: { parameters: ["i32"], result: "i32" },
      });
      if (Number(isatty(fd)) !== 1) return;
      setFlags(fd, F_SETFL, flags & ~own.O_NONBLOCK);
    },
    openDescriptors(count) {
      const polled = Int32Array.from(
        { length: 2 * count },
        (_, index) => index % 2 === 0 ? index / 2 : 0,
      );
      // It fails if the limit of open files is lower.
      const result = Number(c.poll(asBytes(polled), BigInt(count), 0));
      const isOpen = (fd: number) =>
        fd <= STDERR || (polled[2 * fd + 1]! >> 16 & POLLNVAL) === 0;
      const all = Array.from({ length: count }, (_, fd) => fd);
      return result < 0 ? all : all.filter(isOpen);
    },
    isInherited(fd, marked) {
      const flags = flagsOf(fd, F_GETFD);
      if (flags < 0) return false;
      if (fd <= STDERR) return !isReplaced(fd);
      const path = pathOf(fd);
      if (path.startsWith(PROCESS_FILES)) return false;
      return (flags & FD_CLOEXEC) === 0 || marked && path.startsWith("/");
    },
    spawn,
    exec(program, args) {
      const { execvp } = runtime.bind(libc, {
        execvp: { parameters: ["buffer", "buffer"], result: "i32" },
      });
      const argv = stringArray([program, ...args].map(cString));
      return asCaller(() => call(() => execvp(cString(program), argv)));
    },
    wait(pid) {
      const result = call(() => c.waitpid(pid, statusBytes, 0));
      return result < 0 ? result : processEnd(status[0]!);
    },
    isExhausted: (code) => [ERRNO.ENOMEM, own.ENOLCK].includes(Math.abs(code)),
    errorText(code) {
      const text = new Uint8Array(TEXT_SIZE);
      const strerror: CFunction | undefined = runtime.bind(libc, {
        [system.strerror]: {
          parameters: ["i32", "buffer", "usize"],
          result: "i32",
        },
      })[system.strerror];
      strerror?.(Math.abs(code), text, BigInt(TEXT_SIZE));
      return new TextDecoder().decode(text.subarray(0, text.indexOf(0)));
    },
  };
}
