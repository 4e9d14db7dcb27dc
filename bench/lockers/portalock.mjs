/**
 * This package, by the `mod` that the runner names. As all lockers it makes of
 * a path a pair of `acquire` and `release`, which return promises unless the
 * locker is made by `makeSync`.
 */

export function makeSync(path, { Lock }) {
  const lock = new Lock(path);
  return {
    acquire: () => lock.acquireSync(),
    release: () => lock.releaseSync(),
  };
}

export function make(path, { Lock }) {
  const lock = new Lock(path);
  return {
    acquire: () => lock.acquire(),
    release: () => lock.release(),
  };
}
