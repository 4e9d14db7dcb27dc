/** What `--verbose` says about an acquisition. */

import type { Host } from "../../../ffi/runtime/host.ts";
import type { Invocation } from "../grammar/options.ts";

/** Runs an acquisition, and reports how it ended. */
export async function reportAcquisition<T>(
  host: Host,
  { verbose, timeout }: Invocation,
  acquire: () => Promise<T>,
): Promise<T> {
  if (!verbose) return await acquire();
  const start = performance.now();
  const lock = await acquire();
  if (lock) {
    const seconds = ((performance.now() - start) / 1000).toFixed(6);
    host.write(1, `portalock: getting lock took ${seconds} seconds\n`);
  } else {
    const reason = timeout > 0
      ? "timeout while waiting to get lock"
      : "failed to get lock";
    host.write(2, `portalock: ${reason}\n`);
  }
  return lock;
}
