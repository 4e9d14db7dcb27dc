/** Temporary directories of tests. */

import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import process from "node:process";

/**
 * Creates a directory whose name contains a space. It is removed with its
 * content when the result is disposed.
 */
export function tempDir(): { path: string } & Disposable {
  const path = fs.mkdtempSync(join(tmpdir(), "portalock test-"));
  return {
    path,
    [Symbol.dispose]() {
      removeAll(path);
    },
  };
}

/** Does not use `fs.rmSync()`, because Bun's does not work under Wine. */
function removeAll(path: string): void {
  for (const entry of fs.readdirSync(path, { withFileTypes: true })) {
    const name = join(path, entry.name);
    if (entry.isDirectory()) removeAll(name);
    else removeFile(name);
  }
  fs.rmdirSync(path);
}

/**
 * Windows keeps the name of an unlinked file in its directory until the last
 * process closes the file. So the file is moved out of the directory first.
 */
function removeFile(path: string): void {
  if (process.platform !== "win32") return fs.unlinkSync(path);
  const other = `${dirname(path)}.${basename(path)}`;
  fs.renameSync(path, other);
  fs.unlinkSync(other);
}

/** Returns the names in a directory, in the same order on every runtime. */
export function sortedNames(path: string): string[] {
  return fs.readdirSync(path).sort();
}
