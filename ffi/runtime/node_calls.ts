/**
 * Calls C through `node:ffi` (Node 26 and newer). Imports nothing, so that a
 * program that calls C at once starts without the addon and what it needs.
 */

import type { CFunction, CType, FfiRuntime, Signature } from "../types.ts";

/** The part of `node:ffi` that this package uses. */
export interface NodeFfi {
  dlopen(
    library: string,
    symbols: Record<string, unknown>,
  ): { functions: Record<string, (...values: unknown[]) => unknown> };
  getInt32(address: bigint, offset: number): number;
}

const NODE_TYPES: Record<CType, string> = {
  i32: "int32",
  i64: "int64",
  usize: "uint64",
  buffer: "buffer",
};

/**
 * Runs a function without its warnings, which users cannot change: node:ffi is
 * experimental, and the internals of Node are deprecated.
 */
export function withoutWarnings<T>(body: () => T): T {
  const { process } = globalThis;
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    return body();
  } finally {
    process.emitWarning = emitWarning;
  }
}

/** Returns whether the permission model of Node, if enabled, allows a scope. */
export function isPermitted(scope: string): boolean {
  const { permission } = globalThis.process as {
    permission?: { has(scope: string): boolean };
  };
  return permission?.has(scope) ?? true;
}

/** Returns the part of the {@linkcode FfiRuntime} that makes calls. */
export function nodeFfiCalls(
  ffi: NodeFfi,
): Pick<FfiRuntime, "bind" | "errno"> {
  const signature = (parameters: string[], result: string) => ({
    arguments: parameters,
    return: result,
    // The names in the first releases.
    parameters,
    result,
  });
  return {
    bind(library, functions) {
      const symbols = Object.fromEntries(
        Object.entries<Signature>(functions).map(([name, type]) => [
          name,
          signature(
            type.parameters.map((parameter) => NODE_TYPES[parameter]),
            NODE_TYPES[type.result],
          ),
        ]),
      );
      return ffi.dlopen(library, symbols).functions as Record<
        keyof typeof functions,
        CFunction
      >;
    },
    errno(library, locator) {
      const { functions } = ffi.dlopen(library, {
        [locator]: signature([], "pointer"),
      });
      // Called once, because the address is constant for a thread. Node 26.10
      // sometimes crashes when V8 optimizes a call to a C function without
      // parameters, so such a function must not be called in a loop.
      const address = (functions[locator] as () => bigint)();
      return () => ffi.getInt32(address, 0);
    },
  };
}
