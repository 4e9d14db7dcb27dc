/** Loads `node:crypto` when it is first needed. */

import { builtin } from "../../ffi/mod.ts";

/**
 * Returns `node:crypto`. To load it takes longer than to load this package, and
 * most locks do not need it.
 */
export function nodeCrypto(): typeof import("node:crypto") {
  return builtin<typeof import("node:crypto")>("node:crypto")!;
}
