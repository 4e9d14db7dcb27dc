/** Closes handles when a worker of Bun ends, on Windows. */

import { closeSync } from "node:fs";
import { noThreadExit } from "../runtime/thread_exit.ts";
import { cString } from "../runtime/memory.ts";
import type { CloseOnThreadExit, FfiRuntime } from "../types.ts";
import { windowsCalls } from "./calls.ts";

/** fibersapi.h */
const FLS_OUT_OF_INDEXES = -1;

/**
 * Returns a function that makes the system close the handle of a descriptor
 * when the calling thread ends. See `posix/close_on_thread_exit.ts`.
 *
 * The handle becomes the value of a slot of fiber-local storage whose callback
 * is `CloseHandle`. When a thread ends, the system calls the callback of each
 * slot that is not empty. A process has 128 slots, or 4096 since Windows 10 2004.
 * See
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
  return (fd) => {
    const file = handle(fd);
    const slot = Number(c.FlsAlloc(close));
    if (slot === FLS_OUT_OF_INDEXES) throw noThreadExit("FlsAlloc");
    if (Number(c.FlsSetValue(slot, file)) === 0) {
      c.FlsFree(slot);
      throw noThreadExit("FlsSetValue");
    }
    return {
      fd,
      close() {
        // FlsFree() would call the callback for a slot that is not empty.
        c.FlsSetValue(slot, 0n);
        c.FlsFree(slot);
        closeSync(fd);
      },
    };
  };
}
