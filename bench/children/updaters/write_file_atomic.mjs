/** write-file-atomic, which does not lock, under proper-lockfile. */

import { readFile } from "node:fs/promises";
import writeFileAtomic from "write-file-atomic";
import { make as makeLocker } from "../lockers/proper_lockfile.mjs";

export function make(path, _library, kind) {
  const { acquire, release } = makeLocker(path);
  const fsync = kind === "durable";
  return async (change) => {
    await acquire();
    try {
      const old = await readFile(path, "utf8");
      const text = change(old);
      // It keeps what it finds out about the file in the options.
      if (text !== old) await writeFileAtomic(path, text, { fsync });
    } finally {
      await release();
    }
  };
}
