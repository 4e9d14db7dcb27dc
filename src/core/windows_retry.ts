/** Files that somebody has open, as Windows sees them. */

import { sep } from "node:path";
import type { Gen } from "./gensync.ts";
import { sleep } from "./gensync.ts";
import { errorCode } from "../../ffi/types.ts";

/** What Windows says of such a file, and of one that nobody may replace. */
const SHARING_ERRORS = ["EACCES", "EBUSY", "EPERM"];

/** Readers are gone sooner; in milliseconds. */
const RENAME_RETRY_MS = 5000;
/** So are those who had a file open that is removed. */
const OPEN_RETRY_MS = 500;
const MAX_DELAY_MS = 50;

/** Where other systems replace whatever is open. */
const REFUSES_OPEN_FILES = sep === "\\";

/**
 * Renames a file. On Windows MoveFileExW fails while anybody has the file open
 * that is to be replaced, so there it is tried again for a while.
 */
export function renameWithRetry(rename: () => Gen<void>): Gen<void> {
  return retryWhileShared(rename, RENAME_RETRY_MS);
}

/**
 * Opens a file that comes and goes. On Windows one that Python's portalocker
 * has removed can be opened by nobody while anybody has it open still
 * (STATUS_DELETE_PENDING), as if there were no permission, so there it is tried
 * again for a moment.
 */
export function openWithRetry<T>(open: () => Gen<T>): Gen<T> {
  return retryWhileShared(open, OPEN_RETRY_MS);
}

function* retryWhileShared<T>(
  attempt: () => Gen<T>,
  retryMs: number,
): Gen<T> {
  const end = performance.now() + retryMs;
  for (let delay = 1;; delay = Math.min(2 * delay, MAX_DELAY_MS)) {
    try {
      return yield* attempt();
    } catch (error) {
      const code = errorCode(error);
      const busy = REFUSES_OPEN_FILES && SHARING_ERRORS.includes(code!);
      if (!busy || performance.now() > end) throw error;
    }
    yield* sleep(delay);
  }
}
