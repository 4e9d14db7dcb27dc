/** What has to be done to an open file, as recipes. */

import type { NativeFile } from "../../ffi/types.ts";
import { step } from "../core/gensync.ts";
import type { Recipe } from "../core/gensync.ts";

/** Writes everything, however little the system takes at a time. */
export function* writeAll(file: NativeFile, data: Uint8Array): Recipe<void> {
  for (let done = 0; done < data.length;) {
    const rest = data.subarray(done);
    done += yield* step(() => file.write(rest), () => file.writeSync(rest));
  }
}

/** Reads from the start to the end. */
export function* readAll(file: NativeFile): Recipe<Uint8Array<ArrayBuffer>> {
  const content = new Uint8Array(sizeOf(file));
  let done = 0;
  if (content.length > 0) file.seek(0, 0);
  while (done < content.length) {
    const rest = content.subarray(done);
    const count = yield* step(() => file.read(rest), () => file.readSync(rest));
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
  file: NativeFile,
  data: Uint8Array,
  append: boolean,
): Recipe<void> {
  // Appending ignores the position, so there the old content goes first.
  if (append) yield* truncate(file, 0);
  else file.seek(0, 0);
  yield* writeAll(file, data);
  if (!append) yield* truncate(file, data.length);
}

/** Takes the content away, if there is any. */
export function* empty(file: NativeFile): Recipe<void> {
  if (sizeOf(file) === 0) return;
  file.seek(0, 0);
  yield* truncate(file, 0);
}

/** Cuts the file off, or lengthens it with zeros. */
export function truncate(file: NativeFile, length: number): Recipe<void> {
  return step(() => file.truncate(length), () => file.truncateSync(length));
}

/**
 * Unlocks, then closes, come what may. The close alone would unlock too,
 * unless a child process that is just being started still has a copy of the
 * descriptor.
 */
export function* unlockAndClose(file: NativeFile): Recipe<void> {
  try {
    file.unlock();
  } finally {
    // Not by way of `step`: every release comes through here.
    yield { wait: () => file.close(), block: () => file.closeSync() };
  }
}

/** The size in bytes; moves the position to the end. */
export function sizeOf(file: NativeFile): number {
  try {
    return file.seek(0, 2);
  } catch (error) {
    // A FIFO or a terminal has no end, and nothing that could be cut off.
    if ((error as { code?: string }).code === "ESPIPE") return 0;
    throw error;
  }
}
