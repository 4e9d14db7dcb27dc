/** Descriptors that are closed when a thread ends, where nobody else does. */

import type { FfiRuntime } from "../types.ts";

/** Has a descriptor closed with the thread; returns what forgets it again. */
export type CloseOnThreadExit = (fd: number) => () => void;

/** All threads of a process have about 1000 keys, for all their libraries. */
const MOST_KEYS = 128;

const RTLD_LAZY = 1;

/**
 * Bun leaves open what a worker had opened that has ended or was terminated,
 * and locked what it had locked. But when a thread ends, however it does, the
 * system calls the destructor of each of its keys with the key's value: here
 * close(2) with the descriptor. See pthread_key_create(3).
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
  const close = BigInt(c.dlsym(program, new TextEncoder().encode("close\0")));
  let keys = 0;
  return (fd) => {
    // A key is an int on Linux and a long on macOS.
    const buffer = new BigUint64Array(1);
    const out = new Uint8Array(buffer.buffer);
    if (keys >= MOST_KEYS || c.pthread_key_create(out, close) !== 0) {
      return () => {};
    }
    const [key] = buffer;
    keys++;
    c.pthread_setspecific(key, BigInt(fd));
    return () => {
      keys--;
      c.pthread_key_delete(key);
    };
  };
}
