/** Closes handles when a worker of Bun ends, on Windows. */

import { cString } from "../runtime/memory.ts";
import type { CloseOnThreadExit, FfiRuntime } from "../types.ts";
import { windowsCalls } from "./calls.ts";

/** Old versions of Windows limit a process to 128 slots. */
const MAX_SLOTS = 64;

/** fibersapi.h */
const FLS_OUT_OF_INDEXES = -1;

/**
 * Returns a function that makes the system close the handle of a descriptor
 * when the calling thread ends. See `posix/close_on_thread_exit.ts`.
 *
 * The handle becomes the value of a slot of fiber-local storage whose callback
 * is `CloseHandle`. When a thread ends, the system calls the callback of each
 * slot that is not empty. See
 * https://learn.microsoft.com/windows/win32/api/fibersapi/nf-fibersapi-flsalloc
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
      // FlsFree() would call the callback for a slot that is not empty.
      c.FlsSetValue(slot, 0n);
      c.FlsFree(slot);
    };
  };
}
