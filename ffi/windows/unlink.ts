/** Unlinks open files on Windows. */

import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { errorCode } from "../types.ts";

/**
 * How many names are remembered before the set is cleared. Atomic writing
 * cleans up the forgotten ones.
 */
const MAX_PENDING = 1000;

/** Renamed files that could not be deleted yet. */
const pendingDeletes = new Set<string>();

/**
 * Frees the name of a file at once.
 *
 * If a process has the file open, Windows keeps an unlinked name until the last
 * close. Until then, opening the name fails as if the permission was missing.
 * So the file is renamed first. To close the file before the unlink would
 * delete the file of the next holder.
 *
 * The new name matches those of atomic temporary files. If this process dies
 * before the unlink, the cleanup of atomic writing removes the file. If a
 * process such as a virus scanner has the renamed file open without sharing its
 * deletion, the next call deletes it.
 *
 * @throws If such a process has the file open before the rename. The file then
 * keeps its name.
 */
export function renameAndUnlink(
  path: string,
  unlink: (path: string) => void = fs.unlinkSync,
): void {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0"));
  const renamed = join(dirname(path), `.portalock.${hex.join("")}.tmp`);
  fs.renameSync(path, renamed);
  if (pendingDeletes.size >= MAX_PENDING) pendingDeletes.clear();
  pendingDeletes.add(renamed);
  for (const name of pendingDeletes) {
    try {
      unlink(name);
      pendingDeletes.delete(name);
    } catch (error) {
      if (errorCode(error) === "ENOENT") pendingDeletes.delete(name);
    }
  }
}
