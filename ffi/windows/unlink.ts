/** What Windows does to names of files that somebody has open. */

import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { errorCode } from "../types.ts";

/** So many names are remembered; then they are left to cleaners. */
const MAX_PENDING = 1000;

/** Names that could not be removed once they were out of the way. */
const pendingDeletes = new Set<string>();

/**
 * Frees the name of a file at once. Where somebody has it open, unlinking alone
 * would leave the name until the last one closes it, and refuse all who want to
 * open it as if they had no permission. The other name is one that cleaners of
 * atomic writing take for a file of the dead, should the process die here. If
 * somebody opens the file just then who does not share its removal, as a virus
 * scanner may, it is removed the next time.
 *
 * @throws If somebody like that has it open already: then it has its name.
 */
export function renameAndUnlink(
  path: string,
  unlink: (path: string) => void = fs.unlinkSync,
): void {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0"));
  const other = join(dirname(path), `.portalock.${hex.join("")}.tmp`);
  fs.renameSync(path, other);
  if (pendingDeletes.size >= MAX_PENDING) pendingDeletes.clear();
  pendingDeletes.add(other);
  for (const name of pendingDeletes) {
    try {
      unlink(name);
      pendingDeletes.delete(name);
    } catch (error) {
      if (errorCode(error) === "ENOENT") {
        pendingDeletes.delete(name);
      }
    }
  }
}
