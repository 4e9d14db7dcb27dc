/** Picks the runtime and the system, once, when somebody first locks. */

import process from "node:process";
import { isMainThread } from "node:worker_threads";
import { bunRuntime } from "./runtime/bun.ts";
import { isNarrow, posixConstants } from "./posix/constants.ts";
import { denoHasDescriptors, denoRuntime } from "./runtime/deno.ts";
import { denoApi } from "./runtime/deno_api.ts";
import { denoFiles } from "./file/deno_platform.ts";
import { denoLocks } from "./file/deno_locks.ts";
import { descriptors } from "./file/fd_platform.ts";
import { nodeRuntime } from "./runtime/node.ts";
import { posix } from "./posix/posix.ts";
import { closingWithThread } from "./posix/close_on_thread_exit.ts";
import { Unsupported } from "./types.ts";
import { windows } from "./windows/windows.ts";
import { closingHandlesWithThread } from "./windows/close_on_thread_exit.ts";
import type { Lockable, Native, Runtime, SelfLockingFile } from "./types.ts";

export { inMainThread } from "./runtime/main_thread.ts";

let chosen: Native | undefined;

/** The {@linkcode Native} of this process. Throws {@linkcode Unsupported}. */
export function native(): Native {
  return chosen ??= choose();
}

/** A file that locks itself, as others see those that do not. */
export function selfLocking(file: SelfLockingFile): Lockable {
  return {
    ...denoLocks(file, process.platform === "win32"),
    identity: () => null,
    watch: () => null,
    announce() {},
  };
}

/** Puts another in its place, for tests, and returns the one before. */
export function useNative(other: Native | undefined): Native | undefined {
  const before = chosen;
  chosen = other;
  return before;
}

/** The {@linkcode Runtime} of this process. */
export function thisRuntime(): Runtime {
  const deno = denoApi();
  if (deno) return denoRuntime(deno);
  return "bun" in process.versions ? bunRuntime() : nodeRuntime();
}

function choose(): Native {
  const deno = denoApi();
  const system = posixConstants();
  if (deno && !(system && denoHasDescriptors(deno))) return denoFiles(deno);
  const isWindows = process.platform === "win32" && !isNarrow();
  if (!system && !isWindows) {
    throw new Unsupported(
      `this version cannot lock on ${process.platform} ${process.arch}`,
    );
  }
  const runtime = thisRuntime();
  const leavesFilesOpen = "bun" in process.versions && !isMainThread;
  if (!system) {
    return descriptors(
      windows(runtime),
      leavesFilesOpen ? closingHandlesWithThread(runtime) : undefined,
    );
  }
  return descriptors(
    posix(runtime, system),
    leavesFilesOpen ? closingWithThread(runtime, system.libc) : undefined,
  );
}
