/** Reads and writes an open file, in both forms. */

import { errorCode } from "../../ffi/types.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import { ignoreErrors, op } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";

/** Writes all bytes. One write(2) may write only some of them. */
export function* writeAll(file: PlatformFile, data: Uint8Array): Gen<void> {
  for (let done = 0; done < data.length;) {
    const rest = data.subarray(done);
    done += yield* op({
      async: () => file.write(rest),
      sync: () => file.writeSync(rest),
    });
  }
}

/** Reads the file from its start to its end. */
export function* readAll(file: PlatformFile): Gen<Uint8Array<ArrayBuffer>> {
  const content = new Uint8Array(sizeOf(file));
  let done = 0;
  if (content.length > 0) file.seek(0, 0);
  while (done < content.length) {
    const rest = content.subarray(done);
    const count = yield* op({
      async: () => file.read(rest),
      sync: () => file.readSync(rest),
    });
    if (count === 0) break;
    done += count;
  }
  return content.subarray(0, done);
}

/**
 * Replaces the content in place, also of a file that was opened for appending,
 * and moves the position to the end.
 *
 * The file is never shorter than both the old and the new content. It may be
 * shortened only at the end, and a full disk is found before old content is
 * overwritten:
 *
 * 1. The tail is written: what lies beyond the old size.
 * 2. The head is written over the old content.
 * 3. The file is cut, if the old content was longer.
 *
 * A process that is killed between two of these steps, or between two calls of
 * write(2) in one of them, leaves a mixture: the old content, followed by a part
 * of the tail (1), the new content up to some byte and the old one after it
 * (2), or the new content followed by the end of the old one (3).
 *
 * If a call fails, the file has its old size. If the tail could not be written,
 * it has its old content, too.
 */
export function* replaceAll(
  file: PlatformFile,
  data: Uint8Array,
): Gen<void> {
  const endOverwrite = file.overwrite();
  try {
    const oldSize = file.seek(0, 2);
    yield* overwrite(file, data, oldSize);
    if (oldSize > data.length) yield* truncate(file, data.length);
    file.seek(data.length, 0);
  } finally {
    endOverwrite();
  }
}

/** Writes the tail, then the head. The position is at the end of the file. */
function* overwrite(
  file: PlatformFile,
  data: Uint8Array,
  oldSize: number,
): Gen<void> {
  try {
    yield* writeAll(file, data.subarray(oldSize));
    file.seek(0, 0);
    yield* writeAll(file, data.subarray(0, oldSize));
  } catch (error) {
    if (oldSize < data.length) yield* ignoreErrors(truncate(file, oldSize));
    throw error;
  }
}

/** Truncates the file to 0 bytes, unless it is empty. */
export function* empty(file: PlatformFile): Gen<void> {
  if (sizeOf(file) === 0) return;
  file.seek(0, 0);
  yield* truncate(file, 0);
}

/** Truncates the file, or extends it with zeros. */
export function truncate(file: PlatformFile, length: number): Gen<void> {
  return op({
    async: () => file.truncate(length),
    sync: () => file.truncateSync(length),
  });
}

/**
 * Unlocks the file, then closes it even if unlocking fails. The close alone
 * would not unlock it while a child process has a copy of the descriptor, as
 * every child has between fork(2) and exec(2).
 */
export function* unlockAndClose(file: PlatformFile): Gen<void> {
  try {
    file.unlock();
  } finally {
    // Yields the step itself: `op` would add a generator to each release.
    yield { async: () => file.close(), sync: () => file.closeSync() };
  }
}

/** Returns the size in bytes, and moves the position to the end. */
export function sizeOf(file: PlatformFile): number {
  try {
    return file.seek(0, 2);
  } catch (error) {
    // A FIFO or a terminal does not have an end.
    if (errorCode(error) === "ESPIPE") return 0;
    throw error;
  }
}
