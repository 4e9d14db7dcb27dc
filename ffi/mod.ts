/** Picks the runtime and the system, once, when somebody first locks. */

import process from "node:process";
import { isMainThread } from "node:worker_threads";
import { bunRuntime } from "./bun.ts";
import { isNarrow, posixConstants } from "./constants.ts";
import { denoHasDescriptors, denoRuntime } from "./deno.ts";
import { denoApi } from "./deno_api.ts";
import { denoFiles } from "./deno_file.ts";
import { denoLocks } from "./deno_locks.ts";
import { descriptors } from "./descriptors.ts";
import { nodeRuntime } from "./node.ts";
import { posix } from "./posix.ts";
import { closingWithThread } from "./thread_end.ts";
import { Unsupported } from "./types.ts";
import { windows } from "./windows.ts";
import { closingHandlesWithThread } from "./windows_thread_end.ts";
import type { Lockable, Native, Runtime, SelfLockingFile } from "./types.ts";

export { inMainThread } from "./main_thread.ts";

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
