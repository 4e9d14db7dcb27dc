/** Unlinks files when a worker ends without running JavaScript: glibc. */

import { O_CLOEXEC } from "./constants.ts";
import { cString } from "../runtime/memory.ts";
import type { CFunction, FfiRuntime, Platform } from "../types.ts";

const RTLD_LAZY = 1;

/** fcntl.h */
const F_DUPFD_CLOEXEC = 1030;

/** limits.h: `PATH_MAX`, with the zero byte. */
const PATH_MAX = 4096;

const FUNCTIONS = {
  __cxa_thread_atexit_impl: {
    parameters: ["usize", "usize", "usize"],
    result: "i32",
  },
  dlopen: { parameters: ["usize", "i32"], result: "i64" },
  dlsym: { parameters: ["usize", "buffer"], result: "i64" },
  dup3: { parameters: ["i32", "i32", "i32"], result: "i32" },
  eventfd: { parameters: ["i32", "i32"], result: "i32" },
  // Variadic. The calling conventions of Linux treat it as fixed.
  fcntl: { parameters: ["i32", "i32", "i32"], result: "i32" },
  calloc: { parameters: ["usize", "usize"], result: "i64" },
  strcpy: { parameters: ["usize", "buffer"], result: "i64" },
} as const;

type Functions = Record<keyof typeof FUNCTIONS, CFunction>;

/** What the thread calls at its end: `unlink` of the path, then `close`. */
interface Slot {
  readonly fd: number;
  readonly path: bigint;
}

/**
 * Returns {@linkcode Platform.unlinkOnThreadExit}. Its function does nothing if
 * the C library is not glibc.
 *
 * Node closes the files of a worker that is terminated, and so loses its lock,
 * before the thread ends. So the thread has another descriptor of the locked
 * file. At its end it makes the calls that it registered, the last one first:
 *
 * - 1. `unlink(path)`. The lock is still held, and only its holder unlinks the
 *   file or replaces it. So the path names the file that is locked, unless a
 *   program that does not know of the lock has replaced it: the thread cannot
 *   check that anymore.
 * - 2. `close(descriptor)`, which releases the lock.
 *
 * The calls cannot be canceled, but their arguments can be changed: an empty
 * path names no file, and a placeholder takes the place of the descriptor (see
 * `close_on_thread_exit.ts`). Before the thread releases the lock itself, it
 * does that:
 *
 * - 1. It empties the path. If it ends here, the file stays, unlocked.
 * - 2. It unlinks the file, and releases the lock.
 */
export function unlinkOnThreadExit(
  runtime: FfiRuntime,
  libc: string,
): NonNullable<Platform["unlinkOnThreadExit"]> {
  let slots: Slots | null | undefined;
  return (fd, path) => {
    const encoded = cString(path);
    if (encoded.length > PATH_MAX) return () => {};
    if (slots === undefined) slots = bindSlots(runtime, libc);
    return slots?.use(fd, encoded) ?? (() => {});
  };
}

function bindSlots(runtime: FfiRuntime, libc: string): Slots | null {
  try {
    return new Slots(runtime.bind(libc, FUNCTIONS));
  } catch {
    return null;
  }
}

class Slots {
  readonly #c: Functions;
  readonly #close: bigint;
  readonly #free: bigint;
  readonly #unlink: bigint;
  readonly #placeholder: number;
  readonly #unused: Slot[] = [];

  constructor(c: Functions) {
    const program = BigInt(c.dlopen(0n, RTLD_LAZY));
    const find = (name: string) => BigInt(c.dlsym(program, cString(name)));
    this.#c = c;
    this.#close = find("close");
    this.#free = find("free");
    this.#unlink = find("unlink");
    this.#placeholder = Number(c.eventfd(0, O_CLOEXEC));
    this.#atThreadExit(this.#close, BigInt(this.#placeholder));
  }

  /** Returns a function that cancels the calls. */
  use(fd: number, path: Uint8Array): (() => void) | undefined {
    const slot = this.#unused.pop() ?? this.#newSlot();
    if (!slot) return undefined;
    const { dup3, strcpy } = this.#c;
    if (dup3(fd, slot.fd, O_CLOEXEC) !== slot.fd) {
      this.#unused.push(slot);
      return undefined;
    }
    strcpy(slot.path, path);
    return () => {
      strcpy(slot.path, cString(""));
      dup3(this.#placeholder, slot.fd, O_CLOEXEC);
      this.#unused.push(slot);
    };
  }

  #newSlot(): Slot | undefined {
    const { fcntl, calloc } = this.#c;
    const fd = Number(fcntl(this.#placeholder, F_DUPFD_CLOEXEC, 0));
    if (fd < 0) return undefined;
    this.#atThreadExit(this.#close, BigInt(fd));
    const path = BigInt(calloc(1n, BigInt(PATH_MAX)));
    this.#atThreadExit(this.#free, path);
    this.#atThreadExit(this.#unlink, path);
    return { fd, path };
  }

  #atThreadExit(call: bigint, argument: bigint): void {
    // For the last argument, see `close_on_thread_exit.ts`.
    this.#c.__cxa_thread_atexit_impl(call, argument, call);
  }
}
