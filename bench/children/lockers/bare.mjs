/** flock(2) by FFI, as this package calls it, and nothing around it. */

const MODE = {
  read: false,
  write: true,
  append: true,
  create: true,
  exclusive: false,
  truncate: false,
};

export function makeSync(path, { native }) {
  const system = native();
  let file;
  return {
    acquire() {
      file = system.openSync(path, MODE, 0o666);
      file.lock(true);
    },
    release() {
      file.unlock();
      file.closeSync();
    },
  };
}
