/** Chooses the runtime and the operating system when a lock is first used. */

import process from "node:process";
import { bunRuntime } from "./runtime/bun.ts";
import { is32Bit, libcPaths, posixConstants } from "./posix/constants.ts";
import type { PosixConstants } from "./posix/constants.ts";
import { denoLibrary, denoRuntime } from "./runtime/deno.ts";
import { denoApi } from "./runtime/deno_api.ts";
import type { DenoApi } from "./runtime/deno_api.ts";
import { denoHasDescriptors } from "./runtime/deno_calls.ts";
import { denoPlatform } from "./file/deno_platform.ts";
import { denoIdentity, denoLocks } from "./file/deno_locks.ts";
import { fdPlatform } from "./file/fd_platform.ts";
import { nodeRuntime } from "./runtime/node.ts";
import { commandOf } from "./runtime/self_command.ts";
import { posix } from "./posix/posix.ts";
import { closeOnThreadExitOfGlibc } from "./linux/close_on_thread_exit.ts";
import { unlinkOnThreadExit } from "./linux/unlink_on_thread_exit.ts";
import { inMainThread, isMainThread } from "./runtime/main_thread.ts";
import { closeOnThreadExit } from "./posix/close_on_thread_exit.ts";
import { Unsupported } from "./types.ts";
import { windows } from "./windows/windows.ts";
import { closeHandlesOnThreadExit } from "./windows/close_on_thread_exit.ts";
import type {
  FfiRuntime,
  Lockable,
  Platform,
  SelfLockingFile,
} from "./types.ts";

export { builtin } from "./runtime/builtin.ts";
export { inMainThread, poolOutlivesThread } from "./runtime/main_thread.ts";
export { processExists } from "./runtime/process_exists.ts";
export { shared } from "./runtime/shared_state.ts";
export { onThreadExit } from "./runtime/thread_exit.ts";

let current: Platform | undefined;

/** What makes the calls of the {@linkcode Platform}, once it is chosen. */
let means = "";

/**
 * Returns the {@linkcode Platform} of this process.
 *
 * @throws {Unsupported} If the runtime or the system cannot lock.
 */
export function platform(): Platform {
  return current ??= choosePlatform();
}

/**
 * Returns what makes the calls of the {@linkcode Platform}, such as
 * `"node:ffi"`.
 *
 * @throws {Unsupported} If the runtime or the system cannot lock.
 */
export function callsThrough(): string {
  platform();
  return means;
}

/**
 * Returns the command that starts the program of this process once more:
 * see {@linkcode commandOf}.
 *
 * @throws {Error} If the program is not a file.
 */
export function selfCommand(): string[] {
  return commandOf(callsThrough() === "Deno.dlopen");
}

/** Wraps a file that has its own lock methods as a {@linkcode Lockable}. */
export function selfLocking(file: SelfLockingFile): Lockable {
  return {
    ...denoLocks(file, process.platform === "win32"),
    // Without a watch, it cannot share the queue of other open files.
    lockKey: () => null,
    identity: () => denoIdentity(file),
    watchClose: () => null,
    wakeWatchers() {},
  };
}

/**
 * Replaces the {@linkcode Platform} in tests, and returns the previous one.
 * With `undefined`, the next {@linkcode platform} call chooses again.
 */
export function setPlatformForTesting(
  replacement: Platform | undefined,
): Platform | undefined {
  const previous = current;
  current = replacement;
  return previous;
}

/** Returns the {@linkcode FfiRuntime} of this process. */
export function thisRuntime(): FfiRuntime {
  const deno = denoApi();
  if (deno) return denoRuntime(deno);
  return "bun" in process.versions ? bunRuntime() : nodeRuntime();
}

function choosePlatform(): Platform {
  const deno = denoApi();
  const constants = deno ? denoConstants(deno) : posixConstants();
  means = "Deno.FsFile";
  if (deno && !constants) return denoPlatform(deno);
  const isWindows = process.platform === "win32" && !is32Bit();
  if (!constants && !isWindows) {
    throw new Unsupported(
      `this version does not support ${process.platform} on ${process.arch}`,
    );
  }
  const runtime = thisRuntime();
  means = runtime.name;
  const workerLeaksFiles = "bun" in process.versions && !isMainThread();
  if (!constants) {
    return fdPlatform(
      windows(runtime),
      workerLeaksFiles ? closeHandlesOnThreadExit(runtime) : undefined,
    );
  }
  const { libc } = constants;
  const close = workerLeaksFiles
    ? closeOnThreadExitOfGlibc(runtime, libc) ??
      closeOnThreadExit(runtime, libc)
    : undefined;
  const files = fdPlatform(posix(runtime, constants, close), close);
  return inMainThread() || !constants.linux ? files : {
    ...files,
    unlinkOnThreadExit: unlinkOnThreadExit(runtime, libc),
  };
}

/** Returns `null` if Deno may not call C, or cannot pass descriptors to it. */
function denoConstants(deno: DenoApi): PosixConstants | null {
  const constants = posixConstants();
  if (!constants || !denoHasDescriptors(deno)) return null;
  const libc = denoLibrary(deno, constants.libc, libcPaths(constants));
  return libc === null ? null : { ...constants, libc };
}
