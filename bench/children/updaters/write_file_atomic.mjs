/** write-file-atomic, which does not lock, under proper-lockfile. */

import { readFile } from "node:fs/promises";
import writeFileAtomic from "write-file-atomic";
import { make as makeLocker } from "../lockers/proper_lockfile.mjs";

/**
 * @param {string} path
 * @param {unknown} _library
 * @param {string} kind
 * @returns {import("../types.ts").Updater}
 */
export function make(path, _library, kind) {
  const { acquire, release } = makeLocker(path);
  const fsync = kind === "durable";
  return async (change) => {
    await acquire();
    try {
      const old = await readFile(path, "utf8");
      const text = change(old);
      // A new options object, because the package stores what it finds there.
      if (text !== old) await writeFileAtomic(path, text, { fsync });
    } finally {
      await release();
    }
  };
}
