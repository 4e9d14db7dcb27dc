/** Calls C on Deno, through `Deno.dlopen`. */

import { inMainThread } from "./main_thread.ts";
import type { DenoApi } from "./deno_api.ts";
import type { CFunction, CType, FfiRuntime } from "../types.ts";

const NONBLOCKING_READ = {
  parameters: ["i32", "buffer", "usize"],
  result: "isize",
  nonblocking: true,
};

/**
 * Returns whether this Deno may call C, and the descriptors of its `node:fs`
 * are those of the system. Does not prompt for the permission.
 */
export function denoHasDescriptors(deno: DenoApi): boolean {
  const [major = 0, minor = 0] = deno.version.deno.split(".").map(Number);
  // Up to 2.7, they are indexes of a table inside Deno.
  if (major < 2 || major === 2 && minor < 8) return false;
  return deno.permissions.querySync({ name: "ffi" }).state === "granted";
}

/** Returns the {@linkcode FfiRuntime} of Deno. */
export function denoRuntime(deno: DenoApi): FfiRuntime {
  const byte = new Uint8Array(1);
  let read: ((...values: unknown[]) => unknown) | undefined;

  async function waitReadable(library: string, fd: number): Promise<void> {
    read ??= deno.dlopen(library, { read: NONBLOCKING_READ }).symbols.read;
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
      const locate = symbols[locator] as () => object;
      const view = new deno.UnsafePointerView(locate());
      return () => view.getInt32();
    },
    // The blocked thread and its descriptor would outlive a worker.
    ...inMainThread ? { waitReadable } : {},
  };
}
