/** What Linux has beyond POSIX: it tells of releases, and of holders. */

import { fstatSync, readdirSync } from "node:fs";
import { watcher } from "./inotify.ts";
import { O_CLOEXEC, O_NONBLOCK, O_PATH } from "./constants.ts";
import { cString } from "../runtime/memory.ts";
import { holdersIn, procPath } from "./proc.ts";
import type { FfiRuntime, OsLocks } from "../types.ts";

/** The part of {@linkcode OsLocks} that only some systems have. */
export type LinuxExtras = Pick<
  OsLocks,
  "watchClose" | "wakeWatchers" | "holders"
>;

/** Where there is nothing beyond POSIX. */
export const NO_EXTRAS: LinuxExtras = {
  watchClose: () => null,
  wakeWatchers() {},
  holders: () => [],
};

/** What Linux has. */
export function linux(
  runtime: FfiRuntime,
  libc: string,
  hasRecordLocks: (fd: number) => boolean,
  inode: (fd: number) => bigint,
): LinuxExtras {
  // `open` is variadic, which makes no difference to Linux's conventions.
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

  /** Not `node:fs`: Deno wants every permission for /proc. */
  function readFile(path: string): string | undefined {
    return withOpen(path, 0, (fd) => {
      const decoder = new TextDecoder();
      const chunk = new Uint8Array(4096);
      let text = "";
      for (let count; (count = Number(read(fd, chunk, 4096n))) > 0;) {
        text += decoder.decode(chunk.subarray(0, count), { stream: true });
      }
      return text;
    });
  }

  const proc = { read: readFile, list: listFolder, inode };

  return {
    watchClose: watcher(runtime, libc),
    // Whoever opens the file again and closes it releases nothing and wakes
    // all who watch. To open a device could do more than that, and any close
    // takes the record locks away that this process has on the file.
    wakeWatchers(fd) {
      if (!fstatSync(fd).isFile() || hasRecordLocks(fd)) return;
      withOpen(procPath(fd), O_NONBLOCK, () => {});
    },
    // With O_PATH nobody is woken, no record lock is lost at the close, and no
    // permission is needed.
    holders(file, search, locker) {
      const holders = (fd: number) => holdersIn(proc, fd, search, locker);
      return typeof file === "number"
        ? holders(file)
        : withOpen(file, O_PATH, holders) ?? [];
    },
  };
}

function listFolder(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
