/**
 * This package, loaded from the `mod` that the runner names. Like every locker
 * module, it makes a pair of `acquire` and `release` for a path. They return
 * promises unless `makeSync` makes them.
 */

/** The default of 5 s would end a wait of the busier scenarios. */
const OPTIONS = { timeout: 60_000 };

/**
 * @param {string} path
 * @param {import("../types.ts").Portalock} library
 * @returns {import("../types.ts").Locker}
 */
export function makeSync(path, { Lock }) {
  const lock = new Lock(path, OPTIONS);
  return {
    acquire: () => lock.acquireSync(),
    release: () => lock.releaseSync(),
  };
}

/**
 * @param {string} path
 * @param {import("../types.ts").Portalock} library
 * @returns {import("../types.ts").Locker}
 */
export function make(path, { Lock }) {
  const lock = new Lock(path, OPTIONS);
  return {
    acquire: () => lock.acquire(),
    release: () => lock.release(),
  };
}
