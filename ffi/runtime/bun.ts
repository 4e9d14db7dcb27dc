/** Calls C on Bun, through `bun:ffi`. */

import * as fs from "node:fs";
import { isMainThread } from "./main_thread.ts";
import type { FfiRuntime } from "../types.ts";
import { builtin } from "./builtin.ts";
import { bunCalls } from "./bun_calls.ts";
import type { BunFfi } from "./bun_calls.ts";

const byte = new Uint8Array(1);

function waitReadable(_library: string, fd: number): Promise<void> {
  return new Promise((resolve) =>
    fs.read(fd, byte, 0, 1, null, () => resolve())
  );
}

/** Returns the {@linkcode FfiRuntime} of Bun. */
export function bunRuntime(): FfiRuntime {
  return {
    name: "bun:ffi",
    ...bunCalls(builtin<BunFfi>("bun:ffi")!),
    // All workers share the few threads of the pool, so no worker may block
    // one.
    ...isMainThread() ? { waitReadable } : {},
  };
}
