/** This package where nothing may end the wait, as nothing ends that of C. */

export function makeSync(path, { Lock }) {
  const lock = new Lock(path, { timeout: Infinity });
  return {
    acquire: () => lock.acquireSync(),
    release: () => lock.releaseSync(),
  };
}
