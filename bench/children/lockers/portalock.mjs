/**
 * This package, by the `mod` that the runner names. As all lockers it makes of
 * a path a pair of `acquire`, which waits for its turn, and `release`; they
 * return promises unless the locker is made by `makeSync`.
 */

/** The default of 5 s would end a wait of the busier scenarios. */
const OPTIONS = { timeout: 60_000 };

export function makeSync(path, { Lock }) {
  const lock = new Lock(path, OPTIONS);
  return {
    acquire: () => lock.acquireSync(),
    release: () => lock.releaseSync(),
  };
}

export function make(path, { Lock }) {
  const lock = new Lock(path, OPTIONS);
  return {
    acquire: () => lock.acquire(),
    release: () => lock.release(),
  };
}
