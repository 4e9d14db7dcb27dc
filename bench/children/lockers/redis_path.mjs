/** How the runner names a lock in Redis, and how a locker makes one lock. */

/**
 * Splits a path into the URL of the server and, after `#`, the lock's name.
 *
 * @param {string} path
 */
export function parseRedisPath(path) {
  const [url = "", name = ""] = path.split("#");
  return { url, name };
}

/**
 * Makes one lock with a client of its own.
 *
 * @param {import("../types.ts").Connect} connect
 * @returns {(path: string, library: any) => Promise<import("../types.ts").Locker>}
 */
export const oneLock = (connect) => async (path, library) => {
  const { url, name } = parseRedisPath(path);
  const { lock, pings, close } = await connect(url, library);
  return { ...lock(name), pings, close };
};
