/** Closes descriptors when a worker of Bun ends: glibc. */

import { closeSync } from "node:fs";
import { O_CLOEXEC } from "./constants.ts";
import { cString } from "../runtime/memory.ts";
import { noThreadExit } from "../runtime/thread_exit.ts";
import type { CFunction, CloseOnThreadExit, FfiRuntime } from "../types.ts";

const RTLD_LAZY = 1;

const FUNCTIONS = {
  __cxa_thread_atexit_impl: {
    parameters: ["usize", "usize", "usize"],
    result: "i32",
  },
  dlopen: { parameters: ["usize", "i32"], result: "i64" },
  dlsym: { parameters: ["usize", "buffer"], result: "i64" },
  dup3: { parameters: ["i32", "i32", "i32"], result: "i32" },
  eventfd: { parameters: ["i32", "i32"], result: "i32" },
} as const;

/**
 * Returns a function that makes the C library close a descriptor when the
 * calling thread ends, or `null` if the library is not glibc. See
 * `posix/close_on_thread_exit.ts`.
 *
 * `__cxa_thread_atexit_impl` registers any number of calls, here of close(2),
 * and the thread makes them when it ends for any reason. C++ uses it for
 * variables of a thread. A call cannot be canceled. So the number of a closed
 * descriptor must not become that of another file, which the thread would close
 * at its end. dup3(2) puts a placeholder in its place, and later the next file:
 *
 * - 1. The thread opens a file as 7, and registers `close(7)`.
 * - 2. It releases the lock: `dup3(placeholder, 7)` closes the file.
 * - 3. It opens a file as 8: `dup3(8, 7)` and `close(8)`, before it locks 7.
 *
 * A worker keeps as many numbers as it has held locks at a time.
 */
export function closeOnThreadExitOfGlibc(
  runtime: FfiRuntime,
  libc: string,
): CloseOnThreadExit | null {
  const c = bindFunctions(runtime, libc);
  if (c === null) return null;
  const program = BigInt(c.dlopen(0n, RTLD_LAZY));
  const destructor = BigInt(c.dlsym(program, cString("close")));
  const unused: number[] = [];
  let placeholder = -1;

  const closeAtThreadExit = (fd: number) => {
    // The last argument is an address in the library that must stay loaded. In
    // a thread without such calls, glibc crashes for an address of 0.
    const value = BigInt(fd);
    if (c.__cxa_thread_atexit_impl(destructor, value, destructor) === 0) return;
    throw noThreadExit("__cxa_thread_atexit_impl");
  };

  /** Makes `to` another name of the file `from`. */
  const duplicate = (from: number, to: number) => {
    if (c.dup3(from, to, O_CLOEXEC) !== to) throw noThreadExit("dup3");
  };

  const openPlaceholder = () => {
    const fd = Number(c.eventfd(0, O_CLOEXEC));
    if (fd < 0) throw noThreadExit("eventfd");
    closeAtThreadExit(fd);
    return fd;
  };

  /** Moves a file to a registered number. */
  const move = (fd: number) => {
    const to = unused.pop();
    if (to === undefined) {
      closeAtThreadExit(fd);
      return fd;
    }
    duplicate(fd, to);
    closeSync(fd);
    return to;
  };

  return (opened) => {
    if (placeholder < 0) placeholder = openPlaceholder();
    const fd = move(opened);
    const close = () => {
      duplicate(placeholder, fd);
      unused.push(fd);
    };
    return { fd, close };
  };
}

/** Returns `null` if the C library does not have the functions. */
function bindFunctions(
  runtime: FfiRuntime,
  libc: string,
): Record<keyof typeof FUNCTIONS, CFunction> | null {
  try {
    return runtime.bind(libc, FUNCTIONS);
  } catch {
    return null;
  }
}
