/** Picks the runtime and the system, once, when somebody first locks. */

import process from "node:process";
import { isMainThread } from "node:worker_threads";
import { bunRuntime } from "./runtime/bun.ts";
import { is32Bit, posixConstants } from "./posix/constants.ts";
import { denoHasDescriptors, denoRuntime } from "./runtime/deno.ts";
import { denoApi } from "./runtime/deno_api.ts";
import { denoPlatform } from "./file/deno_platform.ts";
import { denoLocks } from "./file/deno_locks.ts";
import { fdPlatform } from "./file/fd_platform.ts";
import { nodeRuntime } from "./runtime/node.ts";
import { posix } from "./posix/posix.ts";
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

export { inMainThread } from "./runtime/main_thread.ts";

let current: Platform | undefined;

/** The {@linkcode Platform} of this process. Throws {@linkcode Unsupported}. */
export function platform(): Platform {
  return current ??= choose();
}

/** A file that locks itself, as others see those that do not. */
export function selfLocking(file: SelfLockingFile): Lockable {
  return {
    ...denoLocks(file, process.platform === "win32"),
    lockKey: () => null,
    watchClose: () => null,
    wakeWatchers() {},
  };
}

/** Puts another in its place, for tests, and returns the one before. */
export function setPlatformForTesting(
  other: Platform | undefined,
): Platform | undefined {
  const before = current;
  current = other;
  return before;
}

/** The {@linkcode FfiRuntime} of this process. */
export function thisRuntime(): FfiRuntime {
  const deno = denoApi();
  if (deno) return denoRuntime(deno);
  return "bun" in process.versions ? bunRuntime() : nodeRuntime();
}

function choose(): Platform {
  const deno = denoApi();
  const system = posixConstants();
  if (deno && !(system && denoHasDescriptors(deno))) return denoPlatform(deno);
  const isWindows = process.platform === "win32" && !is32Bit();
  if (!system && !isWindows) {
    throw new Unsupported(
      `this version cannot lock on ${process.platform} ${process.arch}`,
    );
  }
  const runtime = thisRuntime();
  const leavesFilesOpen = "bun" in process.versions && !isMainThread;
  if (!system) {
    return fdPlatform(
      windows(runtime),
      leavesFilesOpen ? closeHandlesOnThreadExit(runtime) : undefined,
    );
  }
  return fdPlatform(
    posix(runtime, system),
    leavesFilesOpen ? closeOnThreadExit(runtime, system.libc) : undefined,
  );
}
