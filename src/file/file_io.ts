/** Reads and writes an open file, in both forms. */

import { errorCode } from "../../ffi/types.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import { op } from "../core/gensync.ts";
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
 * Replaces the content. If one write(2) writes all of it and it is not shorter
 * than the old content, a killed process leaves the old content or the new.
 */
export function* replaceAll(
  file: PlatformFile,
  data: Uint8Array,
  append: boolean,
): Gen<void> {
  // O_APPEND ignores the position, so the old content is truncated first.
  if (append) yield* truncate(file, 0);
  else file.seek(0, 0);
  yield* writeAll(file, data);
  if (!append) yield* truncate(file, data.length);
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
