/** Deno calls C through `Deno.dlopen`. */

import { inMainThread } from "./main_thread.ts";
import type { DenoApi } from "./deno_api.ts";
import type { CFunction, CType, FfiRuntime } from "../types.ts";

const READ_IN_A_THREAD = {
  parameters: ["i32", "buffer", "usize"],
  result: "isize",
  nonblocking: true,
};

/**
 * Whether this Deno may call C and its `node:fs` descriptors are the system's.
 * Asks without prompting anybody.
 */
export function denoHasDescriptors(deno: DenoApi): boolean {
  const [major, minor] = deno.version.deno.split(".").map(Number);
  // Up to 2.7 they are indexes of a table of Deno's own.
  const own = major < 2 || major === 2 && minor < 8;
  return !own && deno.permissions.querySync({ name: "ffi" }).state ===
      "granted";
}

/** The runtime axis for Deno. */
export function denoRuntime(deno: DenoApi): FfiRuntime {
  const byte = new Uint8Array(1);
  let read: ((...values: unknown[]) => unknown) | undefined;

  async function readable(library: string, fd: number): Promise<void> {
    read ??= deno.dlopen(library, { read: READ_IN_A_THREAD }).symbols.read;
    await read(fd, byte, 1n);
  }

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
        [locator]: { parameters: [], result: "pointer" },
      });
      const view = new deno.UnsafePointerView(symbols[locator]() as object);
      return () => view.getInt32();
    },
    // Its thread and its descriptor would outlive a worker.
    ...inMainThread ? { waitReadable: readable } : {},
  };
}
