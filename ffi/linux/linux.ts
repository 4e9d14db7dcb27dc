/** What Linux adds to POSIX: events for closed files, and lists of holders. */

import { fstatSync, readdirSync } from "node:fs";
import { watcher } from "./inotify.ts";
import { O_CLOEXEC, O_NONBLOCK, O_PATH } from "./constants.ts";
import { cString } from "../runtime/memory.ts";
import { holdersIn, procPath } from "./proc.ts";
import { processExists } from "../runtime/process_exists.ts";
import type { FfiRuntime, OsLocks } from "../types.ts";

/** The part of {@linkcode OsLocks} that POSIX does not provide. */
export type LinuxExtras = Pick<
  OsLocks,
  "watchClose" | "wakeWatchers" | "holders"
>;

/** The extras of a system that is not Linux: none. */
export const NO_EXTRAS: LinuxExtras = {
  watchClose: () => null,
  wakeWatchers() {},
  holders: () => null,
};

/** Returns the extras of Linux. */
export function linux(
  runtime: FfiRuntime,
  libc: string,
  hasRecordLocks: (fd: number) => boolean,
  inode: (fd: number) => bigint,
): LinuxExtras {
  // `open` is variadic. The calling conventions of Linux treat it as fixed.
  const { open, close, read } = runtime.bind(libc, {
    open: { parameters: ["buffer", "i32"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
    read: { parameters: ["i32", "buffer", "usize"], result: "i64" },
  });

  function withOpen<T>(
    path: string,
    flags: number,
    body: (fd: number) => T,
  ): T | undefined {
    const fd = Number(open(cString(path), flags | O_CLOEXEC));
    if (fd < 0) return undefined;
    try {
      return body(fd);
    } finally {
      close(fd);
    }
  }

  // A search reads thousands of files.
  const decoder = new TextDecoder();
  const chunk = new Uint8Array(4096);

  /**
   * Reads a file without `node:fs`: Deno requires all permissions for /proc.
   */
  function readFile(path: string): string | undefined {
    return withOpen(path, 0, (fd) => {
      let text = "";
      for (let count; (count = Number(read(fd, chunk, 4096n))) > 0;) {
        text += decoder.decode(chunk.subarray(0, count), { stream: true });
      }
      return text + decoder.decode();
    });
  }

  const proc = { read: readFile, list: listDirectory, inode, processExists };

  return {
    watchClose: watcher(runtime, libc),
    // To open and close the file once more releases no flock(2) and notifies
    // every watcher. But to open a device may have side effects, and any close
    // releases the record locks that this process holds on the file.
    wakeWatchers(fd) {
      if (!fstatSync(fd).isFile() || hasRecordLocks(fd)) return;
      withOpen(procPath(fd), O_NONBLOCK, () => {});
    },
    // With O_PATH, a close notifies no watcher and releases no record lock, and
    // the open needs no permission on the file.
    holders(file, search, locker) {
      const holders = (fd: number) => holdersIn(proc, fd, search, locker);
      return typeof file === "number"
        ? holders(file)
        : withOpen(file, O_PATH, holders) ?? [];
    },
  };
}

function listDirectory(path: string): string[] | undefined {
  try {
    return readdirSync(path);
  } catch {
    return undefined;
  }
}
