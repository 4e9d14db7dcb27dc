/** Picks the runtime and the system, once, when somebody first locks. */

import process from "node:process";
import { isMainThread } from "node:worker_threads";
import { bunRuntime } from "./bun.ts";
import { posixConstants } from "./constants.ts";
import { denoHasDescriptors, denoRuntime } from "./deno.ts";
import { denoApi } from "./deno_api.ts";
import { denoFiles } from "./deno_file.ts";
import { descriptors } from "./descriptors.ts";
import { nodeRuntime } from "./node.ts";
import { posix } from "./posix.ts";
import { closingWithThread } from "./thread_end.ts";
import { Unsupported } from "./types.ts";
import type { Native, Runtime } from "./types.ts";

let chosen: Native | undefined;

/** The {@linkcode Native} of this process. Throws {@linkcode Unsupported}. */
export function native(): Native {
  return chosen ??= choose();
}

/** Puts another in its place, for tests, and returns the one before. */
export function useNative(other: Native | undefined): Native | undefined {
  const before = chosen;
  chosen = other;
  return before;
}

function choose(): Native {
  const deno = denoApi();
  const system = posixConstants();
  if (deno && !(system && denoHasDescriptors(deno))) return denoFiles(deno);
  if (!system) {
    throw new Unsupported(
      `this version cannot lock on ${process.platform} ${process.arch}` +
        (process.platform === "win32" ? " except with Deno" : ""),
    );
  }
  const runtime: Runtime = deno
    ? denoRuntime(deno)
    : "bun" in process.versions
    ? bunRuntime()
    : nodeRuntime();
  const leavesFilesOpen = "bun" in process.versions && !isMainThread;
  return descriptors(
    posix(runtime, system),
    leavesFilesOpen ? closingWithThread(runtime, system.libc) : undefined,
  );
}
