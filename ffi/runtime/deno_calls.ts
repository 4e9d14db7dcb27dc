/**
 * Calls C through `Deno.dlopen`. Imports no module of `node:`, because Deno
 * takes 8 to 30 ms to load the first one.
 */

import { asBytes } from "./memory.ts";
import type { DenoApi } from "./deno_api.ts";
import type { CFunction, CType, FfiRuntime } from "../types.ts";

const MEMCPY = {
  parameters: ["buffer", "usize", "usize"],
  result: "usize",
};

/**
 * Returns whether the descriptors of `node:fs` are those of the system. Up to
 * Deno 2.7, they are indexes of a table inside Deno.
 */
export function denoHasDescriptors(deno: DenoApi): boolean {
  const [major = 0, minor = 0] = deno.version.deno.split(".").map(Number);
  return major > 2 || major === 2 && minor >= 8;
}

/** Returns the part of the {@linkcode FfiRuntime} that makes calls. */
export function denoCalls(
  deno: DenoApi,
): Pick<FfiRuntime, "bind" | "errno"> {
  return {
    bind(library, functions) {
      const symbols = Object.fromEntries(
        Object.entries<{ parameters: readonly CType[]; result: string }>(
          functions,
        ).map(([name, { parameters, result }]) => [
          name,
          { parameters: [...parameters], result },
        ]),
      );
      return deno.dlopen(library, symbols).symbols as Record<
        keyof typeof functions,
        CFunction
      >;
    },
    errno(library, locator) {
      const { symbols } = deno.dlopen(library, {
        [locator]: { parameters: [], result: "usize" },
        memcpy: MEMCPY,
      });
      const address = symbols[locator]!();
      const { memcpy } = symbols;
      const number = new Int32Array(1);
      const bytes = asBytes(number);
      // A Deno.UnsafePointerView would need the permission for every library.
      return () => {
        memcpy!(bytes, address, 4n);
        return number[0]!;
      };
    },
  };
}
