/** Chooses how to call C, and loads nothing that another runtime needs. */

import { denoApi } from "./deno_api.ts";
import { denoCalls, denoHasDescriptors } from "./deno_calls.ts";
import type { FfiRuntime } from "../types.ts";

/** The part of an {@linkcode FfiRuntime} that makes calls. */
export type Calls = Pick<FfiRuntime, "bind" | "errno">;

/**
 * Returns how this runtime calls C. Returns `null` if Deno cannot, or may call
 * only some libraries: only `denoLibrary` finds out which.
 *
 * @throws {Unsupported} If this Node cannot call C.
 */
export async function loadCalls(): Promise<Calls | null> {
  const deno = denoApi();
  if (deno) {
    if (!denoHasDescriptors(deno)) return null;
    const { state, partial } = deno.permissions.querySync({ name: "ffi" });
    return state === "granted" && !partial ? denoCalls(deno) : null;
  }
  return "bun" in globalThis.process.versions
    ? (await import("./bun.ts")).bunRuntime()
    : (await import("./node.ts")).nodeRuntime();
}
