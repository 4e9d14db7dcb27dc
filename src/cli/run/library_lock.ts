/**
 * Acquires the locks that flock(1) does not have: those that are a class of the
 * library.
 *
 * @module
 */

import { statSync, truncateSync, writeFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import process from "node:process";
import type { Host } from "../../../ffi/runtime/host.ts";
import type { CommandCalls } from "../../../ffi/posix/command.ts";
import { AlreadyLocked } from "../../core/errors.ts";
import { describeHolders } from "../../core/holders.ts";
import { BoundedSemaphore } from "../../lock/bounded_semaphore.ts";
import { Lock } from "../../lock/lock.ts";
import { PidFileLock } from "../../lock/pid_file_lock.ts";
import { TemporaryFileLock } from "../../lock/temporary_file_lock.ts";
import type { LockedFile } from "../../file/locked_file.ts";
import type { LockHolder } from "../../../ffi/types.ts";
import type { Invocation } from "../grammar/options.ts";
import { Failure, UNAVAILABLE } from "../exit_status.ts";
import { toFailure } from "./library_errors.ts";
import { reportWait } from "./report_wait.ts";
import { runChild } from "./supervised.ts";
import { runProgram } from "./blocking.ts";
import type { HeldLock } from "../types.ts";

/**
 * Runs the program of an invocation under a lock of the library, and returns the
 * exit status.
 *
 * @param calls `null` if the C library cannot be called. The program does not
 * inherit the lock then.
 */
export async function runUnderLibraryLock(
  host: Host,
  calls: CommandCalls | null,
  invocation: Invocation,
): Promise<number> {
  const { target, conflictStatus } = invocation;
  if ("fd" in target) {
    throw new Failure(
      UNAVAILABLE,
      `${host.runtime} cannot lock a file descriptor here`,
    );
  }
  const held = await acquireFromLibrary(host, target.file, invocation);
  if (!held) return conflictStatus;
  const wraps = host.platform !== "win32" && held.wrap;
  const toRun = { ...invocation, target: wraps ? wraps(target) : target };
  try {
    if (!calls || held.fd === null) return await runChild(host, held, toRun);
    return runProgram({ host, calls }, { fd: held.fd }, toRun);
  } finally {
    await held.release();
  }
}

/** Acquires the lock. Returns `null` if other processes have it for too long. */
export async function acquireFromLibrary(
  host: Host,
  file: string,
  invocation: Invocation,
): Promise<HeldLock | null> {
  const { timeout, quiet, redis } = invocation;
  let holders: string | undefined;
  const report = reportWait(host, { name: file, quiet }, () => holders);
  const wait = { timeout, failWhenLocked: timeout <= 0 };
  try {
    if (redis) {
      const { acquireFromRedis } = await import("./redis_lock.ts");
      return await acquireFromRedis(file, invocation, wait, (text) => {
        holders = text;
      });
    }
    return await acquireFile(file, invocation, {
      ...wait,
      onWait: (wait) => holders = describeHolders(wait.holders),
    });
  } catch (error) {
    if (error instanceof AlreadyLocked) return null;
    throw toFailure(error);
  } finally {
    report.stop();
  }
}

/** The options of all classes. */
interface Wait {
  readonly timeout: number;
  readonly failWhenLocked: boolean;
  readonly onWait: (wait: { holders: LockHolder[] }) => void;
}

async function acquireFile(
  path: string,
  { kind, lockClass, locker }: Invocation,
  wait: Wait,
): Promise<HeldLock> {
  const shared = kind === "shared";
  switch (lockClass) {
    case "temporary":
      return held(
        await new TemporaryFileLock(path, { ...wait, shared }).acquire(),
      );
    case "pid":
      return heldPidFile(
        path,
        await new PidFileLock(path, { ...wait, shared }).acquire(),
      );
    case "file":
      return held(
        await new Lock(path, {
          ...wait,
          shared,
          mode: "a+",
          locker: locker.name,
        })
          .acquire(),
      );
    default: {
      const [directory, name] = [dirname(path), basename(path)];
      const options = { ...wait, directory, name };
      return held(
        await new BoundedSemaphore(lockClass.maximum, options).acquire(),
      );
    }
  }
}

function held(file: LockedFile): HeldLock {
  return { fd: file.fd, release: () => file.close() };
}

/**
 * Writes the PID of this shell to the PID file, which stays that of the program
 * that replaces the shell. The width is that of the PID that it overwrites.
 */
const WRITE_PID = "file=$0 width=$1; shift; " +
  'command -v "$1" >/dev/null 2>&1 || ' +
  `{ echo "portalock: failed to execute $1" >&2; exit ${UNAVAILABLE}; }; ` +
  'printf "%-${width}s" $$ 1<>"$file" && exec "$@"';

/**
 * While the program runs, the file contains the PID of the program, which holds
 * the lock, too. The program writes it before it begins, because a PID is known
 * only when a process runs. The PID of this process is restored at the end,
 * because only its writer removes the file.
 */
function heldPidFile(path: string, file: LockedFile): HeldLock {
  const own = String(process.pid);
  return {
    fd: file.fd,
    wrap: ({ program, args }) => ({
      file: path,
      program: "/bin/sh",
      args: ["-c", WRITE_PID, path, String(own.length), program, ...args],
    }),
    async release() {
      try {
        // In place: only the file that this process has written is removed.
        writeFileSync(path, own, { flag: "r+" });
        if (statSync(path).size > own.length) truncateSync(path, own.length);
      } catch {
        // Another program has removed it.
      }
      await file.close();
    },
  };
}
