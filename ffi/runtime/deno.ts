/** Calls C on Deno, through `Deno.dlopen`. */

import process from "node:process";
import { denoCalls } from "./deno_calls.ts";
import { inMainThread } from "./main_thread.ts";
import { shared } from "./shared_state.ts";
import type { DenoApi } from "./deno_api.ts";
import type { FfiRuntime } from "../types.ts";

const NONBLOCKING_READ = {
  parameters: ["i32", "buffer", "usize"],
  result: "isize",
  nonblocking: true,
};

/**
 * Returns the name or the path by which this Deno may load a library, or `null`
 * if it may not. Does not prompt for the permission.
 *
 * If the permission has a scope, or exceptions, Deno resolves a name against
 * the working directory, both to check it and to load the library. So the
 * loader must not get the name then: it would load a file that is planted in
 * the working directory. Warns if the scope does not suffice, because the
 * program then grants more than it needs, and waits longer than it needs.
 *
 * @param paths Where the library may be. The warning names the first two.
 */
export function denoLibrary(
  deno: DenoApi,
  name: string,
  paths: readonly string[],
): string | null {
  const query = (path?: string) =>
    deno.permissions.querySync({ name: "ffi", path });
  const { state, partial } = query();
  if (state === "granted" && !partial) return name;
  const states = [name, ...paths].map((path) => query(path).state);
  // A path that is not denied may be another name of the same file.
  if (state === "denied" || states.includes("denied")) return null;
  const library = paths.find((path) =>
    query(path).state === "granted" && canLoad(deno, path)
  );
  if (library !== undefined) return library;
  if (states.includes("granted")) warnOfScope(paths.slice(0, 2));
  return null;
}

/** Warns once, however many copies of this package are loaded. */
function warnOfScope(paths: readonly string[]): void {
  const scope = shared("denoScope", () => ({ hasWarned: false }));
  if (scope.hasWarned) return;
  scope.hasWarned = true;
  process.emitWarning(
    "The FFI permission of Deno does not include the path of the C library, " +
      "so a waiter polls instead of being woken by the release; pass " +
      `--allow-ffi=${paths.join()}, or --allow-ffi without a path`,
    "PortalockWarning",
  );
}

function canLoad(deno: DenoApi, library: string): boolean {
  try {
    deno.dlopen(library, {}).close();
    return true;
  } catch {
    return false;
  }
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
    name: "Deno.dlopen",
    // F_DUPFD_CLOEXEC and close(2), for all of them but `fs.write`.
    copiesDescriptors: true,
    ...denoCalls(deno),
    // The blocked thread and its descriptor would outlive a worker.
    ...inMainThread() ? { waitReadable } : {},
  };
}
