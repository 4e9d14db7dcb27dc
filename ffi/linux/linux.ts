/**
 * What Linux adds to POSIX: events for closed files, lists of holders, and the
 * mount table.
 */

import { closeSync, fstatSync, openSync, readdirSync } from "node:fs";
import { nameWatcher, watcher } from "./inotify.ts";
import { MountTable } from "./mounts.ts";
import { O_CLOEXEC, O_NONBLOCK, O_PATH, PATH_MAX } from "./constants.ts";
import { cString } from "../runtime/memory.ts";
import { holdersIn, isLockedIn, procPath } from "./proc.ts";
import { LockStates } from "./lock_states.ts";
import { processExists } from "../runtime/process_exists.ts";
import type { CloseOnThreadExit, FfiRuntime, OsLocks } from "../types.ts";

/** The part of {@linkcode OsLocks} that POSIX does not provide. */
export type LinuxExtras = Pick<
  OsLocks,
  | "watchClose"
  | "watchName"
  | "wakeWatchers"
  | "holders"
  | "lockStates"
  | "isLocked"
  | "machineId"
  | "localPaths"
  | "readProcFile"
>;

/** The extras of a system that is not Linux: none. */
export const NO_EXTRAS: Omit<LinuxExtras, "machineId"> = {
  watchClose: () => null,
  watchName: () => null,
  wakeWatchers() {},
  holders: () => null,
  isLocked: () => null,
};

/** Returns the extras of Linux. */
export function linux(
  runtime: FfiRuntime,
  libc: string,
  hasRecordLocks: (fd: number) => boolean,
  inode: (fd: number) => bigint,
  closeOnThreadExit: CloseOnThreadExit | undefined,
): LinuxExtras {
  // `open` is variadic. The calling conventions of Linux treat it as fixed.
  const { open, close, read, readlink } = runtime.bind(libc, {
    open: { parameters: ["buffer", "i32"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
    read: { parameters: ["i32", "buffer", "usize"], result: "i64" },
    readlink: { parameters: ["buffer", "buffer", "usize"], result: "i64" },
  });
  /** Opens a file. The end of a worker closes it, where that is possible. */
  function openFile(
    path: string,
    flags: number,
  ): ReturnType<CloseOnThreadExit> | undefined {
    if (runtime.closesFilesOfWorkers) {
      try {
        const fd = openSync(path, flags | O_CLOEXEC);
        return { fd, close: () => closeSync(fd) };
      } catch {
        // Node's permission model may deny access that FFI has.
      }
    }
    const fd = Number(open(cString(path), flags | O_CLOEXEC));
    if (fd < 0) return undefined;
    try {
      if (closeOnThreadExit) return closeOnThreadExit(fd);
    } catch {
      // To close it only below is better than not to read it.
    }
    return { fd, close: () => close(fd) };
  }

  function withOpen<T>(
    path: string,
    flags: number,
    body: (fd: number) => T,
  ): T | undefined {
    const file = openFile(path, flags);
    if (!file) return undefined;
    try {
      return body(file.fd);
    } finally {
      file.close();
    }
  }

  // A search reads thousands of files.
  const decoder = new TextDecoder();
  const chunk = new Uint8Array(PATH_MAX);

  /**
   * Reads a file without `node:fs`: Deno requires all permissions for /proc.
   */
  function readFile(path: string): string | undefined {
    return withOpen(path, 0, (fd) => {
      let text = "";
      for (
        let count;
        (count = Number(read(fd, chunk, BigInt(PATH_MAX)))) > 0;
      ) {
        text += decoder.decode(chunk.subarray(0, count), { stream: true });
      }
      return text + decoder.decode();
    });
  }

  /** Not with `node:fs`: Deno would ask for permission to read each name. */
  function readLink(path: string): string | undefined {
    const length = Number(readlink(cString(path), chunk, BigInt(PATH_MAX)));
    if (length < 0) return undefined;
    return decoder.decode(chunk.subarray(0, length));
  }

  const proc = { read: readFile, list: listDirectory, inode, processExists };

  return {
    localPaths: new MountTable({ read: readFile, readLink }),
    watchClose: watcher(runtime, libc),
    watchName: nameWatcher(runtime, libc),
    // To open and close the file once more releases no flock(2) and notifies
    // every watcher. But to open a device may have side effects, and any close
    // releases the record locks that this process holds on the file.
    wakeWatchers(fd) {
      if (!fstatSync(fd).isFile() || hasRecordLocks(fd)) return;
      withOpen(procPath(fd), O_NONBLOCK, () => {});
    },
    isLocked: (fd, locker) => isLockedIn(proc, fd, locker),
    // With O_PATH, a close notifies no watcher and releases no record lock, and
    // the open needs no permission on the file.
    holders(file, search, locker) {
      const holders = (fd: number) => holdersIn(proc, fd, search, locker);
      return typeof file === "number"
        ? holders(file)
        : withOpen(file, O_PATH, holders) ?? [];
    },
    readProcFile: readFile,
    lockStates(paths) {
      const states = new LockStates(proc);
      const files = paths.map((path) =>
        withOpen(path, O_PATH, (fd) => states.add(fd))
      );
      return states.read(files);
    },
    machineId: () => readFile("/proc/sys/kernel/random/boot_id") || null,
  };
}

function listDirectory(path: string): string[] | undefined {
  try {
    return readdirSync(path);
  } catch {
    return undefined;
  }
}
