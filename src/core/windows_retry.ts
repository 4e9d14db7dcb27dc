/** Files that somebody has open, as Windows sees them. */

import { sep } from "node:path";
import type { Recipe } from "./gensync.ts";
import { sleep } from "./sleep.ts";

/** What Windows says of such a file, and of one that nobody may replace. */
const BUSY = ["EACCES", "EBUSY", "EPERM"];

/** Readers are gone sooner; in milliseconds. */
const LONGEST = 5000;
/** So are those who had a file open that is removed. */
const LONGEST_REMOVAL = 500;
const LONGEST_PAUSE = 50;

/** Where other systems replace whatever is open. */
const REFUSES_OPEN_FILES = sep === "\\";

/**
 * Renames a file. On Windows MoveFileExW fails while anybody has the file open
 * that is to be replaced, so there it is tried again for a while.
 */
export function renameWhenFree(rename: () => Recipe<void>): Recipe<void> {
  return whenFree(rename, LONGEST);
}

/**
 * Opens a file that comes and goes. On Windows one that Python's portalocker
 * has removed can be opened by nobody while anybody has it open still
 * (STATUS_DELETE_PENDING), as if there were no permission, so there it is tried
 * again for a moment.
 */
export function openWhenGone<T>(open: () => Recipe<T>): Recipe<T> {
  return whenFree(open, LONGEST_REMOVAL);
}

function* whenFree<T>(
  attempt: () => Recipe<T>,
  longest: number,
): Recipe<T> {
  const end = performance.now() + longest;
  for (let pause = 1;; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
    try {
      return yield* attempt();
    } catch (error) {
      // A signal may be aborted with anything.
      const code = (error as { code?: string } | null)?.code;
      const busy = REFUSES_OPEN_FILES && BUSY.includes(code!);
      if (!busy || performance.now() > end) throw error;
    }
    yield* sleep(pause);
  }
}
