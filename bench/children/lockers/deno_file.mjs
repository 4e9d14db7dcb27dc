/** Deno's own files, which lock in a pool thread or synchronously. */

const OPTIONS = { append: true, create: true };

/**
 * @param {string} path
 * @returns {import("../types.ts").Locker}
 */
export function makeSync(path) {
  /** @type {Deno.FsFile} */
  let file;
  return {
    acquire() {
      file = Deno.openSync(path, OPTIONS);
      file.lockSync(true);
    },
    release: () => unlock(file),
  };
}

/**
 * @param {string} path
 * @returns {import("../types.ts").Locker}
 */
export function make(path) {
  /** @type {Deno.FsFile} */
  let file;
  return {
    async acquire() {
      const opened = await Deno.open(path, OPTIONS);
      await opened.lock(true);
      file = opened;
    },
    // Unlocking never waits, so a pool thread would only add time.
    release: () => unlock(file),
  };
}

/** @param {Deno.FsFile} file */
function unlock(file) {
  file.unlockSync();
  file.close();
}
