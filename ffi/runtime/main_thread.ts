/** Detects whether this thread is the main thread of the program. */

import { isMainThread } from "node:worker_threads";

/**
 * Whether this is the main thread.
 *
 * A worker must not block in the kernel, because then it could not be
 * terminated. That applies to workers of `node:worker_threads` and to Web
 * Workers, for which Deno sets `isMainThread`.
 */
export const inMainThread: boolean = isMainThread &&
  !("WorkerGlobalScope" in globalThis);
