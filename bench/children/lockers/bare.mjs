/** flock(2) by FFI, as this package calls it, without its lock objects. */

const MODE = {
  read: false,
  write: true,
  append: true,
  create: true,
  exclusive: false,
  truncate: false,
};

/**
 * @param {string} path
 * @param {import("../types.ts").PortalockFfi} library
 * @returns {import("../types.ts").Locker}
 */
export function makeSync(path, library) {
  const platform = library.platform();
  /** @type {ReturnType<typeof platform.openSync>} */
  let file;
  return {
    acquire() {
      file = platform.openSync(path, MODE, 0o666);
      file.lock(true);
    },
    release() {
      file.unlock();
      file.closeSync();
    },
  };
}
