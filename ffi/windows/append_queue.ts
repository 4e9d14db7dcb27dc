/**
 * Appends on Windows, where a file that is opened for appending could be
 * neither locked nor truncated.
 */

import { setImmediate } from "node:timers";

/** How many bytes one blocking call writes. */
const MAX_PIECE = 2 ** 16;

/**
 * Turns a blocking append into an asynchronous write.
 *
 * A write in a pool thread would go to the position at that time, which a
 * concurrent read or seek may have moved. On this thread, no other code moves
 * the position during an append. Long data is written in pieces, and completely
 * before the next write begins.
 */
export function serializeAppends(
  appendSync: (data: Uint8Array) => number,
): (data: Uint8Array) => Promise<number> {
  let previous: Promise<unknown> = Promise.resolve();

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
    const current = previous.then(() => append(data));
    previous = current.catch(() => {});
    return current;
  };
}
