/** Calls C on Bun, through `bun:ffi`. */

import * as fs from "node:fs";
import { isMainThread } from "./main_thread.ts";
import type { CFunction, CType, FfiRuntime } from "../types.ts";
import { builtin } from "./builtin.ts";

interface BunFfi {
  dlopen(
    library: string,
    symbols: Record<string, { args: string[]; returns: string }>,
  ): { symbols: Record<string, (...values: unknown[]) => unknown> };
  read: { i32(address: number, offset: number): number };
}

const BUN_TYPES: Record<CType, string> = {
  i32: "i32",
  i64: "i64",
  usize: "usize",
  buffer: "ptr",
};

const byte = new Uint8Array(1);

function waitReadable(_library: string, fd: number): Promise<void> {
  return new Promise((resolve) =>
    fs.read(fd, byte, 0, 1, null, () => resolve())
  );
}

/** Returns the {@linkcode FfiRuntime} of Bun. */
export function bunRuntime(): FfiRuntime {
  const ffi = builtin<BunFfi>("bun:ffi")!;
  return {
    name: "bun:ffi",
    bind(library, functions) {
      const symbols = Object.fromEntries(
        Object.entries<{ parameters: readonly CType[]; result: CType }>(
          functions,
        ).map(([name, { parameters, result }]) => [
          name,
          {
            args: parameters.map((type) => BUN_TYPES[type]),
            returns: BUN_TYPES[result],
          },
        ]),
      );
      return ffi.dlopen(library, symbols).symbols as Record<
        keyof typeof functions,
        CFunction
      >;
    },
    errno(library, locator) {
      const { symbols } = ffi.dlopen(library, {
        [locator]: { args: [], returns: "ptr" },
      });
      const address = (symbols[locator] as () => number)();
      return () => ffi.read.i32(address, 0);
    },
    // All workers share the few threads of the pool, so no worker may block
    // one.
    ...isMainThread() ? { waitReadable } : {},
  };
}
