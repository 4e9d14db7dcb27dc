/**
 * Everything that the package exports, in one module.
 *
 * @module
 */

export * from "../../mod.ts";
export * from "../../src/redis/mod.ts";
