/**
 * Retries calls that fail on Windows while another process has the file open.
 * On other systems the first error is thrown.
 *
 * MoveFileExW does not replace a file that is open:
 *
 * - P.1 A reader opens `report.csv`.
 * - Q.2 A writer renames its temporary file to `report.csv`, which fails.
 * - P.3 The reader closes the file.
 * - Q.4 The writer retries the rename, which succeeds.
 *
 * A file that was deleted while open keeps its name until its last handle is
 * closed (STATUS_DELETE_PENDING). Python's portalocker deletes files this way:
 *
 * - P.1 A process has `a.lock` open.
 * - Q.2 Python deletes `a.lock`.
 * - R.3 A waiter opens `a.lock`, which fails as if it lacked the permission.
 * - P.4 The process closes the file, which removes the name.
 * - R.5 The waiter retries, and creates a new file.
 *
 * @module
 */

import { sep } from "node:path";
import type { Gen } from "./gensync.ts";
import { sleep } from "./gensync.ts";
import { errorCode } from "../../ffi/types.ts";

/**
 * The codes for ERROR_SHARING_VIOLATION and ERROR_ACCESS_DENIED. They do not
 * say whether the file will ever be free.
 */
const SHARING_ERRORS: readonly unknown[] = ["EACCES", "EBUSY", "EPERM"];

const RENAME_RETRY_MS = 5000;
const OPEN_RETRY_MS = 500;
const MAX_DELAY_MS = 50;

const IS_WINDOWS = sep === "\\";

/** Renames a file. On Windows, retries for 5 seconds while it is shared. */
export function renameWithRetry(rename: () => Gen<void>): Gen<void> {
  return retryWhileShared(rename, RENAME_RETRY_MS);
}

/** Opens a file. On Windows, retries for 500 ms while it is being deleted. */
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
      const shared = IS_WINDOWS && SHARING_ERRORS.includes(errorCode(error));
      if (!shared || performance.now() > end) throw error;
    }
    yield* sleep(delay);
  }
}
