/** Deno's own files, which lock in a pool thread or at once. */

const OPTIONS = { append: true, create: true };

export function makeSync(path) {
  let file;
  return {
    acquire() {
      file = Deno.openSync(path, OPTIONS);
      file.lockSync(true);
    },
    release: () => unlock(file),
  };
}

export function make(path) {
  let file;
  return {
    async acquire() {
      const opened = await Deno.open(path, OPTIONS);
      await opened.lock(true);
      file = opened;
    },
    // It never waits, so a pool thread would only cost.
    release: () => unlock(file),
  };
}

function unlock(file) {
  file.unlockSync();
  file.close();
}
