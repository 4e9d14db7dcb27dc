/** What has to be done to an open file, as recipes. */

import { errorCode } from "../../ffi/types.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import { op } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";

/** Writes everything, however little the system takes at a time. */
export function* writeAll(file: PlatformFile, data: Uint8Array): Gen<void> {
  for (let done = 0; done < data.length;) {
    const rest = data.subarray(done);
    done += yield* op({
      async: () => file.write(rest),
      sync: () => file.writeSync(rest),
    });
  }
}

/** Reads from the start to the end. */
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
 * Puts new content in the place of the old. What is written in one go and no
 * shorter than before is never seen half, even if the process dies here.
 */
export function* replaceAll(
  file: PlatformFile,
  data: Uint8Array,
  append: boolean,
): Gen<void> {
  // Appending ignores the position, so there the old content goes first.
  if (append) yield* truncate(file, 0);
  else file.seek(0, 0);
  yield* writeAll(file, data);
  if (!append) yield* truncate(file, data.length);
}

/** Takes the content away, if there is any. */
export function* empty(file: PlatformFile): Gen<void> {
  if (sizeOf(file) === 0) return;
  file.seek(0, 0);
  yield* truncate(file, 0);
}

/** Cuts the file off, or lengthens it with zeros. */
export function truncate(file: PlatformFile, length: number): Gen<void> {
  return op({
    async: () => file.truncate(length),
    sync: () => file.truncateSync(length),
  });
}

/**
 * Unlocks, then closes, come what may. The close alone would unlock too,
 * unless a child process that is just being started still has a copy of the
 * descriptor.
 */
export function* unlockAndClose(file: PlatformFile): Gen<void> {
  try {
    file.unlock();
  } finally {
    // Not by way of `step`: every release comes through here.
    yield { async: () => file.close(), sync: () => file.closeSync() };
  }
}

/** The size in bytes; moves the position to the end. */
export function sizeOf(file: PlatformFile): number {
  try {
    return file.seek(0, 2);
  } catch (error) {
    // A FIFO or a terminal has no end, and nothing that could be cut off.
    if (errorCode(error) === "ESPIPE") return 0;
    throw error;
  }
}
