/** Handles that are closed when a thread ends, where nobody else does. */

import { cString } from "../runtime/memory.ts";
import type { CloseOnThreadExit } from "../posix/close_on_thread_exit.ts";
import type { FfiRuntime } from "../types.ts";
import { windowsCalls } from "./calls.ts";

/** All threads of a process have 128 of them in old versions of Windows. */
const MAX_SLOTS = 64;

/** fibersapi.h */
const FLS_OUT_OF_INDEXES = -1;

/**
 * What `thread_end.ts` does with the keys of a thread: when a thread ends, the
 * system calls back for each slot of its local storage that is not empty, here
 * `CloseHandle` with the handle.
 */
export function closeHandlesOnThreadExit(
  runtime: FfiRuntime,
): CloseOnThreadExit {
  const { handle } = windowsCalls(runtime);
  const c = runtime.bind("kernel32.dll", {
    GetModuleHandleA: { parameters: ["buffer"], result: "i64" },
    GetProcAddress: { parameters: ["usize", "buffer"], result: "i64" },
    FlsAlloc: { parameters: ["usize"], result: "i32" },
    FlsFree: { parameters: ["i32"], result: "i32" },
    FlsSetValue: { parameters: ["i32", "usize"], result: "i32" },
  });
  const library = BigInt(c.GetModuleHandleA(cString("kernel32.dll")));
  const close = BigInt(c.GetProcAddress(library, cString("CloseHandle")));
  let slots = 0;
  return (fd) => {
    if (slots >= MAX_SLOTS) return () => {};
    const slot = Number(c.FlsAlloc(close));
    if (slot === FLS_OUT_OF_INDEXES) return () => {};
    slots++;
    c.FlsSetValue(slot, handle(fd));
    return () => {
      slots--;
      // What is freed with a value is called back for, too.
      c.FlsSetValue(slot, 0n);
      c.FlsFree(slot);
    };
  };
}
