/** Whether this is the thread that the program began with. */

import { isMainThread } from "node:worker_threads";

/**
 * Nobody could end a worker that the system keeps: neither Node's kind, nor the
 * web's, which Deno calls a main thread.
 */
export const inMainThread: boolean = isMainThread &&
  !("WorkerGlobalScope" in globalThis);
