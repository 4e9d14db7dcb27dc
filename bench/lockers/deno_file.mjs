/** Deno's own files. */

const OPTIONS = { append: true, create: true };

export function makeSync(path) {
  let file;
  return {
    acquire() {
      file = Deno.openSync(path, OPTIONS);
      file.lockSync(true);
    },
    release() {
      file.unlockSync();
      file.close();
    },
  };
}

export function make(path) {
  let file;
  return {
    async acquire() {
      file = await Deno.open(path, OPTIONS);
      await file.lock(true);
    },
    async release() {
      await file.unlock();
      file.close();
    },
  };
}
