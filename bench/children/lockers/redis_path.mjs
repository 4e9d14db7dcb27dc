/** How the runner names a lock in Redis. */

/**
 * Splits a path into the URL of the server and, after `#`, the lock's name.
 *
 * @param {string} path
 */
export function parseRedisPath(path) {
  const [url = "", name = ""] = path.split("#");
  return { url, name };
}
