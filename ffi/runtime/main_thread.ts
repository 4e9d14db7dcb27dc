/** Detects whether this thread is the main thread of the program. */

import { isMainThread } from "node:worker_threads";
import { denoApi } from "./deno_api.ts";

/**
 * Whether this is the main thread.
 *
 * A worker must not block in the kernel, because then it could not be
 * terminated. That applies to workers of `node:worker_threads` and to Web
 * Workers, for which Deno sets `isMainThread`.
 */
export const inMainThread: boolean = isMainThread &&
  !("WorkerGlobalScope" in globalThis);

/**
 * Whether a call that this thread started in the thread pool may be made after
 * the thread has ended, and has lost its locks. So it is for a worker of Deno
 * that is terminated. Node and Bun make such calls first.
 */
export const poolOutlivesThread: boolean = !inMainThread &&
  denoApi() !== undefined;
