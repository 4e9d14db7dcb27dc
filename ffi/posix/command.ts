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
import { callerOf, callerSignatures } from "./caller.ts";
import type { Caller, CallerFunctions, Variables } from "./caller.ts";
import { F_GETFL, F_SETFL, LOCK_NB } from "./constants.ts";
import type { PosixConstants } from "./constants.ts";
import type { Host } from "../runtime/host.ts";
import type { CFunction, FfiRuntime } from "../types.ts";

/** What differs between the systems: fcntl.h, errno.h. */
const LINUX = {
  O_CREAT: 0o100,
  O_NOCTTY: 0o400,
  O_CLOEXEC: 0o2000000,
  O_NONBLOCK: 0o4000,
  // Of x64 and arm64. The other one is O_DIRECT, which no lock file needs.
  O_DIRECTORY: 0o240000,
  ENOLCK: 37,
};
const DARWIN: typeof LINUX = {
  O_CREAT: 0x200,
  O_NOCTTY: 0x20000,
  O_CLOEXEC: 0x1000000,
  O_NONBLOCK: 0x4,
  O_DIRECTORY: 0x100000,
  ENOLCK: 77,
};

/** fcntl.h, the same on Linux and macOS. */
const O_RDWR = 2;
const O_ACCMODE = 3;
const F_GETFD = 1;
const F_SETFD = 2;
const FD_CLOEXEC = 1;

/** fcntl.h of macOS. */
const F_GETPATH = 50;

/** Large enough for the path of any open file. */
const PATH_SIZE = 4096;

/** The number of standard error, the last standard stream. */
const STDERR = 2;

const STANDARD_STREAMS = [0, 1, 2];

/** Shells give the files of redirections numbers below this one. */
const SHELL_DESCRIPTORS = 256;

/** Bun opens this file of its process now and then, without `FD_CLOEXEC`. */
const OWN_FILE = /^\/proc\/\d+\/statm$/;

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

/** How a process ended. */
export type ProcessEnd =
  | { readonly status: number }
  | { readonly signal: number };

/** Reads what wait(2) reports: WIFSIGNALED, WTERMSIG and WEXITSTATUS. */
export function processEnd(status: number): ProcessEnd {
  const signal = status & 0x7f;
  return signal === 0 ? { status: status >> 8 & 0xff } : { signal };
}

type CommandFunction =
  | "open"
  | "close"
  | "flock"
  | "fcntl"
  | "readlink"
  | "poll"
  | "posix_spawnp"
  | "waitpid"
  | "_exit";

type Calls = Record<CommandFunction, CFunction> & CallerFunctions;

/** The calls. */
export interface CommandCalls extends Pick<Caller, "resetSignals" | "ignores"> {
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
   * Gives the standard streams the flags that they had at the start. Node makes
   * pipes and terminals non-blocking when `node:process` is imported, and Bun does
   * so with terminals. Other programs have the same open files, and few expect
   * that.
   */
  restoreStreams(): void;
  /** Whether this process is in the foreground of the terminal of a stream. */
  isForeground(fd: number): boolean;
  /**
   * The descriptors above 2 and below 256 that this process inherited, and that
   * are marked to be closed in programs: those that were open at the start, and
   * were not opened by the runtime. At the start, Node and Bun have opened pipes
   * of which they have both ends, and Bun the folder of its code cache, with
   * `O_DIRECTORY`, which shells do not use. Later, they open terminals, for
   * example.
   */
  readonly inherited: readonly number[];
  /**
   * Whether this process inherited a descriptor, as far as can be seen. Node and
   * Bun open /dev/null, for reading and writing, for each standard stream that is
   * closed.
   */
  isInherited(fd: number): boolean;
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

/** Where execvp(3) looks for a program. */
function candidates(program: string, path = DEFAULT_PATH): string[] {
  if (program.includes("/")) return [program];
  return path.split(":").map((directory) => `${directory || "."}/${program}`);
}

/** Binds the calls. */
export function commandCalls(
  runtime: Pick<FfiRuntime, "bind" | "errno">,
  system: PosixConstants,
  host: Pick<Host, "env" | "environment" | "marksInherited" | "parentPid">,
): CommandCalls {
  const { libc } = system;
  const own = system.linux ? LINUX : DARWIN;
  const padding = Array<bigint>(system.variadicPadding).fill(0n);
  const variadic = padding.map(() => "i64" as const);
  // Bun compiles code for each call of `bind`, so there is one for all functions
  // that are mostly needed.
  const c: Calls = runtime.bind(libc, {
    ...callerSignatures(system),
    open: { parameters: ["buffer", "i32", ...variadic, "i64"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
    flock: { parameters: ["i32", "i32"], result: "i32" },
    fcntl: { parameters: ["i32", "i32", ...variadic, "i64"], result: "i32" },
    readlink: { parameters: ["buffer", "buffer", "usize"], result: "i64" },
    poll: { parameters: ["buffer", "usize", "i32"], result: "i32" },
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

  function open(path: string, flags: number): number {
    return call(() => c.open(cString(path), flags, ...padding, 0o666n));
  }

  const caller = callerOf(runtime, system, host, c, {
    open: (path) => open(path, own.O_CLOEXEC),
    close: c.close,
    read: (fd, buffer) => call(() => c.read(fd, buffer, BigInt(buffer.length))),
  });

  /** Starts a program as posix_spawnp(3) does. */
  function start(
    program: string,
    args: readonly string[],
    added: Variables,
  ): number {
    const pid = new Int32Array(1);
    const argv = caller.strings([program, ...args].map(cString));
    const env = caller.environment(added);
    const code = caller.run(() =>
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

  /** The path of an open file. On Linux, others have names such as `pipe:[5]`. */
  function nameOf(fd: number): string {
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
      nameOf(fd) === NULL_DEVICE;
  }

  function restoreStreams(): void {
    flagsAtStart.forEach((flags, fd) => {
      if (flags < 0 || flagsOf(fd, F_GETFL) === flags) return;
      setFlags(fd, F_SETFL, flags);
    });
  }

  /** Returns which of the descriptors below a number may be open. */
  function openDescriptors(limit: number): number[] {
    const polled = Int32Array.from(
      { length: 2 * limit },
      (_, index) => index % 2 === 0 ? index / 2 : 0,
    );
    // It fails if the limit of open files is lower.
    const result = Number(c.poll(asBytes(polled), BigInt(limit), 0));
    const isOpen = (fd: number) => (polled[2 * fd + 1]! >> 16 & POLLNVAL) === 0;
    const all = Array.from({ length: limit }, (_, fd) => fd);
    return result < 0 ? all : all.filter(isOpen);
  }

  /** See {@linkcode CommandCalls.inherited}. */
  function findInherited(): number[] {
    const files = openDescriptors(SHELL_DESCRIPTORS)
      .filter((fd) => fd > STDERR)
      .map((fd) => ({ fd, name: nameOf(fd), flags: flagsOf(fd, F_GETFL) }));
    const hasBothEnds = (pipe: string) =>
      new Set(
        files.filter(({ name }) => name === pipe)
          .map(({ flags }) => flags & O_ACCMODE),
      ).size > 1;
    return files.filter(({ name, flags }) => {
      if (name.startsWith("pipe:")) return !hasBothEnds(name);
      if (name.startsWith("socket:")) return true;
      return name.startsWith("/") && !OWN_FILE.test(name) &&
        (flags & own.O_DIRECTORY) === 0;
    }).map(({ fd }) => fd);
  }

  const flagsAtStart = STANDARD_STREAMS.map((fd) => flagsOf(fd, F_GETFL));
  const inherited = host.marksInherited ? findInherited() : [];
  const status = new Int32Array(1);
  const statusBytes = new Uint8Array(status.buffer);

  return {
    resetSignals: caller.resetSignals,
    ignores: caller.ignores,
    exit(status) {
      restoreStreams();
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
    restoreStreams,
    isForeground(fd) {
      // Not getpgrp(), because Node 26 must not call functions without parameters.
      const { tcgetpgrp, getpgid } = runtime.bind(libc, {
        tcgetpgrp: { parameters: ["i32"], result: "i32" },
        getpgid: { parameters: ["i32"], result: "i32" },
      });
      return tcgetpgrp(fd) === getpgid(0);
    },
    inherited,
    isInherited(fd) {
      const flags = flagsOf(fd, F_GETFD);
      if (flags < 0) return false;
      if (fd <= STDERR) return !isReplaced(fd);
      if ((flags & FD_CLOEXEC) === 0) return !OWN_FILE.test(nameOf(fd));
      if (!host.marksInherited) return false;
      return fd < SHELL_DESCRIPTORS
        ? inherited.includes(fd)
        : nameOf(fd).startsWith("/");
    },
    spawn,
    exec(program, args) {
      const { execvp } = runtime.bind(libc, {
        execvp: { parameters: ["buffer", "buffer"], result: "i32" },
      });
      const argv = caller.strings([program, ...args].map(cString));
      return caller.run(() => call(() => execvp(cString(program), argv)));
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
