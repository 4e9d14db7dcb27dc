/**
 * Loads a library and acquires the first lock: `start.mjs NAME MODULE PATH`.
 * Prints the milliseconds until each is done. Imports nothing else, so that the
 * library has to load all that it needs.
 */

/**
 * @typedef {{ acquire(): Promise<unknown>, release(): Promise<unknown> }} Lock
 * @typedef {() => Promise<void>} Release
 */

const [name, module = "", path = ""] = globalThis.process.argv.slice(2);
const start = performance.now();
const library = module === "" ? undefined : await import(module);
const imported = performance.now() - start;
if (name === "portalock") await lockWithPortalock(library);
if (name === "proper-lockfile") await lockWithProperLockfile(library.default);
const locked = performance.now() - start;
console.log(JSON.stringify({ imported, locked }));

/** @param {{ Lock: new (path: string) => Lock }} library */
async function lockWithPortalock({ Lock }) {
  const lock = new Lock(path);
  await lock.acquire();
  await lock.release();
}

/**
 * @param {object} library
 * @param {(path: string, options: object) => Promise<Release>} library.lock
 */
async function lockWithProperLockfile({ lock }) {
  // The file is missing.
  const release = await lock(path, { realpath: false });
  await release();
}
