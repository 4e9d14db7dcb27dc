/** Bun calls C through `bun:ffi`. */

import { createRequire } from "node:module";
import type { CFunction, CType, Runtime } from "./types.ts";

interface BunFfi {
  dlopen(
    library: string,
    symbols: Record<string, { args: string[]; returns: string }>,
  ): { symbols: Record<string, (...values: unknown[]) => unknown> };
  read: { i32(address: number, offset: number): number };
}

const NAMES: Record<CType, string> = {
  i32: "i32",
  i64: "i64",
  usize: "usize",
  buffer: "ptr",
};

/** The runtime axis for Bun. */
export function bunRuntime(): Runtime {
  const ffi = createRequire(import.meta.url)("bun:ffi") as BunFfi;
  return {
    bind(library, functions) {
      const symbols = Object.fromEntries(
        Object.entries<{ parameters: readonly CType[]; result: CType }>(
          functions,
        ).map(([name, { parameters, result }]) => [
          name,
          {
            args: parameters.map((type) => NAMES[type]),
            returns: NAMES[result],
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
