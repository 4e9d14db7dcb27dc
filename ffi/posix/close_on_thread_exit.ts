/** Closes descriptors when a worker of Bun ends, on Linux and macOS. */

import { cString, littleEndian } from "../runtime/memory.ts";
import type { CloseOnThreadExit, FfiRuntime } from "../types.ts";

/** A process has about 1000 keys, which all of its libraries share. */
const MAX_KEYS = 128;

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
 * Beyond {@linkcode MAX_KEYS} descriptors, files are left open as Bun does.
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
  const close = BigInt(c.dlsym(program, cString("close")));
  let keys = 0;
  return (fd) => {
    // A key is an int on Linux and a long on macOS.
    const out = new Uint8Array(8);
    if (keys >= MAX_KEYS || c.pthread_key_create(out, close) !== 0) {
      return () => {};
    }
    const key = new DataView(out.buffer).getBigUint64(0, littleEndian);
    keys++;
    c.pthread_setspecific(key, BigInt(fd));
    return () => {
      keys--;
      c.pthread_key_delete(key);
    };
  };
}
