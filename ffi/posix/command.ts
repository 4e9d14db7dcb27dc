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

import { cString } from "../runtime/memory.ts";
import { LOCK_NB } from "./constants.ts";
import type { PosixConstants } from "./constants.ts";
import type { CFunction, FfiRuntime } from "../types.ts";

/** What differs between the systems: fcntl.h, errno.h, dlfcn.h. */
const LINUX = {
  O_CREAT: 0o100,
  O_NOCTTY: 0o400,
  O_CLOEXEC: 0o2000000,
  ENOLCK: 37,
  RTLD_DEFAULT: 0n,
};
const DARWIN: typeof LINUX = {
  O_CREAT: 0x200,
  O_NOCTTY: 0x20000,
  O_CLOEXEC: 0x1000000,
  ENOLCK: 77,
  RTLD_DEFAULT: 0xffff_ffff_ffff_fffen,
};

/** fcntl.h, the same on Linux and macOS. */
const O_RDWR = 2;
const F_GETFD = 1;
const F_SETFD = 2;
const FD_CLOEXEC = 1;

/** signal.h, the same on Linux and macOS. */
const SIGPIPE = 13;
const SIG_DFL = 0n;
const SIG_IGN = 1n;

/** sys/wait.h */
const WNOHANG = 1;

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

/** The calls. */
export interface CommandCalls {
  open(path: string, mode: LockFileMode): number;
  close(fd: number): void;
  /** Applies an operation of flock(2). Returns `false` if it would block. */
  flock(fd: number, operation: number): boolean | number;
  /** Whether programs that this process starts get the descriptor. */
  setInherited(fd: number, inherited: boolean): number;
  /** Starts a program, found in `PATH`, and returns its PID. */
  spawn(program: string, args: readonly string[]): number;
  /** Replaces this process. Returns only if that fails. */
  exec(program: string, args: readonly string[]): number;
  /** Blocks until a child process has ended. */
  wait(pid: number): ProcessEnd | number;
  /** Returns how a child process ended, or `null` if it runs. */
  poll(pid: number): ProcessEnd | number | null;
  /** Returns the text of an errno, also if it is negative. */
  errorText(errno: number): string;
  /** Whether an errno means that the system lacks memory or locks. */
  isExhausted(errno: number): boolean;
}

/** Binds the calls. */
export function commandCalls(
  runtime: Pick<FfiRuntime, "bind" | "errno">,
  system: PosixConstants,
): CommandCalls {
  const { libc } = system;
  const own = system.linux ? LINUX : DARWIN;
  const padding = Array<bigint>(system.variadicPadding).fill(0n);
  const variadic = padding.map(() => "i64" as const);
  const c: Record<
    "open" | "close" | "flock" | "fcntl" | "strdup",
    CFunction
  > = runtime.bind(libc, {
    open: { parameters: ["buffer", "i32", ...variadic, "i64"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
    flock: { parameters: ["i32", "i32"], result: "i32" },
    fcntl: { parameters: ["i32", "i32", ...variadic, "i64"], result: "i32" },
    strdup: { parameters: ["buffer"], result: "i64" },
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
  function stringArray(texts: readonly string[]): Uint8Array {
    const pointers = new BigInt64Array(texts.length + 1);
    texts.forEach((text, index) => {
      pointers[index] = BigInt(c.strdup(cString(text)));
    });
    return new Uint8Array(pointers.buffer);
  }

  /**
   * Runs a function while SIGPIPE has its default effect, because a program
   * inherits what is ignored, and all three runtimes ignore it.
   */
  function withSigpipe(body: () => number): number {
    const { signal } = runtime.bind(libc, {
      signal: { parameters: ["i32", "usize"], result: "i64" },
    });
    signal(SIGPIPE, SIG_DFL);
    const result = body();
    signal(SIGPIPE, SIG_IGN);
    return result;
  }

  /** The address of the environment, whose bytes need not be UTF-8. */
  function environment(): bigint {
    const { dlsym, memcpy } = runtime.bind(libc, {
      dlsym: { parameters: ["usize", "buffer"], result: "i64" },
      memcpy: { parameters: ["buffer", "usize", "usize"], result: "i64" },
    });
    const pointer = new BigUint64Array(1);
    memcpy(
      new Uint8Array(pointer.buffer),
      BigInt(dlsym(own.RTLD_DEFAULT, cString("environ"))),
      8n,
    );
    return pointer[0]!;
  }

  function spawn(program: string, args: readonly string[]): number {
    const { posix_spawnp } = runtime.bind(libc, {
      posix_spawnp: {
        parameters: ["buffer", "buffer", "usize", "usize", "buffer", "usize"],
        result: "i32",
      },
    });
    const pid = new Int32Array(1);
    const argv = stringArray([program, ...args]);
    const env = environment();
    const code = withSigpipe(() =>
      Number(posix_spawnp(
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

  let waitpid: CFunction | undefined;
  const status = new Int32Array(1);
  const statusBytes = new Uint8Array(status.buffer);

  function waitFor(pid: number, options: number): number {
    waitpid ??= runtime.bind(libc, {
      waitpid: { parameters: ["i32", "buffer", "i32"], result: "i32" },
    }).waitpid;
    return call(() => waitpid!(pid, statusBytes, options));
  }

  /** sys/wait.h: WIFSIGNALED, WTERMSIG and WEXITSTATUS. */
  function processEnd(): ProcessEnd {
    const signal = status[0]! & 0x7f;
    return signal === 0 ? { status: status[0]! >> 8 & 0xff } : { signal };
  }

  return {
    open(path, { write, create }) {
      const flags = (write ? O_RDWR : 0) |
        (create ? own.O_CREAT : 0) | own.O_NOCTTY | own.O_CLOEXEC;
      return call(() => c.open(cString(path), flags, ...padding, 0o666n));
    },
    close: (fd) => void c.close(fd),
    flock(fd, operation) {
      const result = call(() => c.flock(fd, operation));
      if (result >= 0) return true;
      const busy = operation & LOCK_NB && result === -system.EWOULDBLOCK;
      return busy ? false : result;
    },
    setInherited(fd, inherited) {
      const flags = call(() => c.fcntl(fd, F_GETFD, ...padding, 0n));
      if (flags < 0) return flags;
      const changed = inherited ? flags & ~FD_CLOEXEC : flags | FD_CLOEXEC;
      return call(() => c.fcntl(fd, F_SETFD, ...padding, BigInt(changed)));
    },
    spawn,
    exec(program, args) {
      const { execvp } = runtime.bind(libc, {
        execvp: { parameters: ["buffer", "buffer"], result: "i32" },
      });
      const argv = stringArray([program, ...args]);
      return withSigpipe(() => call(() => execvp(cString(program), argv)));
    },
    wait(pid) {
      const result = waitFor(pid, 0);
      return result < 0 ? result : processEnd();
    },
    poll(pid) {
      const result = waitFor(pid, WNOHANG);
      if (result <= 0) return result < 0 ? result : null;
      return processEnd();
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
