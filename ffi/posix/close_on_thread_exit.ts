/** Closes descriptors when a worker of Bun ends, on macOS and with musl. */

import { closeSync } from "node:fs";
import { cString, littleEndian } from "../runtime/memory.ts";
import { noThreadExit } from "../runtime/thread_exit.ts";
import type { CloseOnThreadExit, FfiRuntime } from "../types.ts";

const RTLD_LAZY = 1;

/**
 * Returns a function that makes the system close a descriptor when the calling
 * thread ends.
 *
 * When a worker ends or is terminated, Bun leaves its files open, and so
 * locked. The descriptor becomes the value of a thread-specific key whose
 * destructor is close(2). When a thread ends for any reason, the system calls
 * the destructor of each key with its value: see pthread_key_create(3).
 *
 * A process has 128 (musl) or 512 (macOS) keys, which all of its libraries
 * share, and a worker that ends while it holds a lock does not delete the key.
 * If no key is left, the lock is refused, because it could not be released.
 */
export function closeOnThreadExit(
  runtime: FfiRuntime,
  libc: string,
): CloseOnThreadExit {
  const c = runtime.bind(libc, {
    dlopen: { parameters: ["usize", "i32"], result: "i64" },
    dlsym: { parameters: ["usize", "buffer"], result: "i64" },
    pthread_key_create: { parameters: ["buffer", "usize"], result: "i32" },
    pthread_key_delete: { parameters: ["usize"], result: "i32" },
    pthread_setspecific: { parameters: ["usize", "usize"], result: "i32" },
  });
  const program = BigInt(c.dlopen(0n, RTLD_LAZY));
  const destructor = BigInt(c.dlsym(program, cString("close")));
  return (fd) => {
    // A key is an int on Linux and a long on macOS.
    const out = new Uint8Array(8);
    if (c.pthread_key_create(out, destructor) !== 0) {
      throw noThreadExit("pthread_key_create");
    }
    const key = new DataView(out.buffer).getBigUint64(0, littleEndian);
    if (c.pthread_setspecific(key, BigInt(fd)) !== 0) {
      c.pthread_key_delete(key);
      throw noThreadExit("pthread_setspecific");
    }
    const close = () => {
      c.pthread_key_delete(key);
      closeSync(fd);
    };
    return { fd, close };
  };
}
