/** Chooses how to call C, and loads nothing that another runtime needs. */

import { bunCalls } from "./bun_calls.ts";
import type { BunFfi } from "./bun_calls.ts";
import { denoApi } from "./deno_api.ts";
import { denoCalls, denoHasDescriptors } from "./deno_calls.ts";
import { isPermitted, nodeFfiCalls, withoutWarnings } from "./node_calls.ts";
import type { NodeFfi } from "./node_calls.ts";
import type { FfiRuntime } from "../types.ts";

/** The part of an {@linkcode FfiRuntime} that makes calls. */
export type RuntimeCalls = Pick<FfiRuntime, "bind" | "errno">;

/**
 * Returns how this runtime calls C. Returns `null` if Deno cannot, or may call
 * only some libraries: only `denoLibrary` finds out which.
 *
 * @throws {Unsupported} If this Node cannot call C.
 */
export async function loadCalls(): Promise<RuntimeCalls | null> {
  const deno = denoApi();
  if (deno) {
    if (!denoHasDescriptors(deno)) return null;
    const { state, partial } = deno.permissions.querySync({ name: "ffi" });
    return state === "granted" && !partial ? denoCalls(deno) : null;
  }
  const { process } = globalThis;
  return "bun" in process.versions
    ? bunCalls(await bunFfi())
    : nodeFfi() ?? (await import("./node.ts")).nodeRuntime();
}

/** Returns the calls of Node 26 and newer. */
function nodeFfi(): RuntimeCalls | undefined {
  const { getBuiltinModule } = globalThis.process;
  const ffi = withoutWarnings(() => getBuiltinModule?.("node:ffi"));
  return ffi && isPermitted("ffi")
    ? nodeFfiCalls(ffi as unknown as NodeFfi)
    : undefined;
}

/** Bun 1.2.0 does not have `getBuiltinModule`. */
async function bunFfi(): Promise<BunFfi> {
  const { getBuiltinModule } = globalThis.process;
  if (typeof getBuiltinModule === "function") {
    return getBuiltinModule("bun:ffi") as unknown as BunFfi;
  }
  return (await import("./builtin.ts")).builtin<BunFfi>("bun:ffi")!;
}
