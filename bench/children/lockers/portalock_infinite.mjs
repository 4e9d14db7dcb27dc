/** This package with an infinite timeout, which blocks in the kernel as C does. */

/**
 * @param {string} path
 * @param {import("../types.ts").Portalock} library
 * @returns {import("../types.ts").Locker}
 */
export function makeSync(path, { Lock }) {
  const lock = new Lock(path, { timeout: Infinity });
  return {
    acquire: () => lock.acquireSync(),
    release: () => lock.releaseSync(),
  };
}
