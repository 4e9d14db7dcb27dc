/**
 * Calls C through `bun:ffi`. Imports no module of `node:`, which takes Bun 1 to
 * 4 ms each.
 */

import type { CFunction, CType, FfiRuntime } from "../types.ts";

/** The part of `bun:ffi` that this package uses. */
export interface BunFfi {
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

/** Returns the part of the {@linkcode FfiRuntime} that makes calls. */
export function bunCalls(ffi: BunFfi): Pick<FfiRuntime, "bind" | "errno"> {
  return {
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
  };
}
