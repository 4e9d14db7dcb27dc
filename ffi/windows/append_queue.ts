/** Appending where a file that the system appends to could not be locked. */

import { setImmediate } from "node:timers";

/** So much is written while the thread is blocked, in bytes. */
const MAX_PIECE = 2 ** 16;

/**
 * Makes an asynchronous write of one that finds the end by itself. In a pool
 * the write would go to where the position is by then, and a read or a seek may
 * have moved it; on this thread nothing comes in between. What is long is
 * written in pieces, and whole before the next one begins.
 */
export function serializeAppends(
  appendSync: (data: Uint8Array) => number,
): (data: Uint8Array) => Promise<number> {
  let before: Promise<unknown> = Promise.resolve();

  async function append(data: Uint8Array): Promise<number> {
    let written = 0;
    do {
      await new Promise((resolve) => setImmediate(resolve));
      const end = written + MAX_PIECE;
      try {
        written += appendSync(data.subarray(written, end));
      } catch (error) {
        if (written === 0) throw error;
        return written;
      }
    } while (written < data.length);
    return written;
  }

  return (data) => {
    const mine = before.then(() => append(data));
    before = mine.catch(() => {});
    return mine;
  };
}
