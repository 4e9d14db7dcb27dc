/**
 * This package, loaded from the `mod` that the runner names. Like every updater
 * module, it makes a function that changes the file at a path.
 */

/** A slow contender is measured rather than failed. */
const TIMEOUT_MS = 60_000;

/**
 * @param {string} path
 * @param {import("../types.ts").Portalock} library
 * @param {string} kind
 * @returns {import("../types.ts").Updater}
 */
export function make(path, { updateFile }, kind) {
  const options = { timeout: TIMEOUT_MS, durable: kind === "durable" };
  return (change) => updateFile(path, change, options);
}
