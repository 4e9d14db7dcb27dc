/** Finds built-in modules that not every runtime or version has. */

// webpack would evaluate a named import of createRequire.
import * as modules from "node:module";
import { errorCode } from "../types.ts";

/**
 * Returns a built-in module, or `undefined` if this version does not have it.
 *
 * Bundlers neither resolve the name nor see a `require`, so a bundle for one
 * runtime may contain the names of all. The fallback is for Node before 20.16
 * and old versions of Bun. `import.meta.url` would be undefined in a bundle
 * that is CommonJS.
 */
export function builtin<Module>(
  name: "bun" | `${"node" | "bun"}:${string}`,
): Module | undefined {
  if (typeof globalThis.process.getBuiltinModule === "function") {
    return globalThis.process.getBuiltinModule(name) as Module | undefined;
  }
  try {
    return modules.createRequire(globalThis.process.execPath)(name) as Module;
  } catch (error) {
    if (errorCode(error) === "ERR_UNKNOWN_BUILTIN_MODULE") return undefined;
    throw error;
  }
}
