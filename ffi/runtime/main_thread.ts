/** Detects whether this thread is the main thread of the program. */

import { builtin } from "./builtin.ts";
import { denoApi } from "./deno_api.ts";

/** Returns whether `node:worker_threads` did not create this thread. */
export function isMainThread(): boolean {
  return builtin<typeof import("node:worker_threads")>("node:worker_threads")!
    .isMainThread;
}

/**
 * Returns whether this is the main thread.
 *
 * A worker must not block in the kernel, because then it could not be
 * terminated. That applies to workers of `node:worker_threads` and to Web
 * Workers, for which Deno sets `isMainThread`.
 */
export function inMainThread(): boolean {
  return !("WorkerGlobalScope" in globalThis) && isMainThread();
}

/**
 * Returns whether a call that this thread started in the thread pool may be
 * made after the thread has ended, and has lost its locks. So it is for a worker
 * of Deno that is terminated. Node and Bun make such calls first.
 */
export function poolOutlivesThread(): boolean {
  return denoApi() !== undefined && !inMainThread();
}
