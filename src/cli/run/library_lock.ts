/**
 * Acquires the locks that flock(1) does not have: those that are a class of the
 * library.
 *
 * @module
 */

import { lstatSync } from "node:fs";
import { basename, dirname } from "node:path";
import process from "node:process";
import type { Host } from "../../../ffi/runtime/host.ts";
import type { CommandCalls } from "../../../ffi/posix/command.ts";
import type { PosixConstants } from "../../../ffi/posix/constants.ts";
import { supervisionCalls } from "../../../ffi/posix/supervision.ts";
import type { RuntimeCalls } from "../../../ffi/runtime/light.ts";
import { AlreadyLocked, formatSubject } from "../../core/errors.ts";
import { describeHolders } from "../../core/holders.ts";
import { BoundedSemaphore } from "../../lock/bounded_semaphore.ts";
import { Lock } from "../../lock/lock.ts";
import { PidFileLock } from "../../lock/pid_file_lock.ts";
import { TemporaryFileLock } from "../../lock/temporary_file_lock.ts";
import type { LockedFile } from "../../file/locked_file.ts";
import type { LockHolder } from "../../../ffi/types.ts";
import type { Invocation } from "../grammar/options.ts";
import {
  DATA_ERROR,
  Failure,
  UNAVAILABLE,
  UsageError,
} from "../exit_status.ts";
import { toFailure } from "./library_errors.ts";
import { replacePid } from "./pid_file.ts";
import { reportWait } from "./report_wait.ts";
import { runProgram } from "./blocking.ts";
import { runSupervised } from "./supervised.ts";
import type { HeldLock, RunInvocation } from "../types.ts";
import { reportAcquisition } from "./verbose.ts";

/** How the C library is called. */
interface CLibrary {
  readonly calls: CommandCalls;
  readonly runtime: RuntimeCalls;
  readonly constants: PosixConstants;
}

/**
 * Runs the program of an invocation under a lock of the library, and returns the
 * exit status.
 *
 * @param library `null` if the C library cannot be called. The program does not
 * inherit the lock then.
 */
export async function runUnderLibraryLock(
  host: Host,
  library: CLibrary | null,
  invocation: Invocation,
): Promise<number> {
  const { target, conflictStatus, lockClass, redis } = invocation;
  if ("fd" in target) {
    throw new Failure(
      UNAVAILABLE,
      `${host.runtime} cannot lock a file descriptor here`,
    );
  }
  const program = { ...invocation, target };
  checkSupervised(program);
  // This module has imported `node:process`.
  library?.calls.resetSignals();
  const acquire = (interruption?: AbortSignal) =>
    reportAcquisition(
      host,
      invocation,
      () => acquireFromLibrary(host, library, program, interruption),
    );
  const isSemaphore = typeof lockClass === "object" && !redis;
  if (!library || !isSemaphore) {
    const calls = library && {
      command: library.calls,
      supervision: supervisionCalls(library.runtime, library.constants),
    };
    return await runSupervised(host, calls, program, acquire);
  }
  const held = await acquire();
  // It is released when the last process has closed the file, as with flock(1).
  return held
    ? runProgram({ host, calls: library.calls }, { fd: held.fd! }, program)
    : conflictStatus;
}

/** Refuses what would not do what the options say. */
function checkSupervised(
  { target: { file }, lockClass, redis, noFork }: RunInvocation,
): void {
  const option = redis
    ? "redis"
    : { temporary: "temporary", pid: "pid-file" }[String(lockClass)];
  if (noFork && option !== undefined) {
    throw new UsageError(
      `the --no-fork and --${option} options are incompatible: portalock has ` +
        `to run as long as the command, to ${
          redis ? "keep the connection" : "remove the file"
        }`,
    );
  }
  if (lockClass !== "temporary") return;
  const stats = lstatSync(file, { throwIfNoEntry: false });
  if (!stats?.isFile() || stats.size === 0) return;
  throw new Failure(
    DATA_ERROR,
    `Cannot lock ${formatSubject({ path: file })}: it has content, and ` +
      "--temporary would remove it; remove it or use another path",
  );
}

/**
 * Acquires the lock. Returns `null` if other processes have it for too long.
 *
 * @param interruption Aborts if a signal comes. Without it, signals end this
 * process.
 */
async function acquireFromLibrary(
  host: Host,
  library: CLibrary | null,
  invocation: RunInvocation,
  interruption?: AbortSignal,
): Promise<HeldLock | null> {
  const { timeout, quiet, redis, target: { file: name } } = invocation;
  let state = "";
  const isQuiet = quiet || timeout <= 0;
  const report = reportWait(
    host,
    library?.calls ?? null,
    { name, quiet: isQuiet, state: () => state },
    !interruption,
  );
  const failWhenLocked = timeout <= 0;
  const wait = {
    timeout,
    failWhenLocked,
    signal: interruption ?? new AbortController().signal,
  };
  try {
    if (redis) {
      const { acquireFromRedis } = await import("./redis_lock.ts");
      const settings = { ...invocation, redis };
      const onState = (text: string) => void (state = text);
      return await acquireFromRedis(
        name,
        settings,
        wait,
        isQuiet ? undefined : onState,
      );
    }
    return await acquireFile(invocation, {
      ...wait,
      onWait: ({ holders }) => state = `locked${describeHolders(holders)}`,
    });
  } catch (error) {
    if (interruption?.aborted) throw interruption.reason;
    if (error instanceof AlreadyLocked) return null;
    throw toFailure(error, redis ? UNAVAILABLE : DATA_ERROR);
  } finally {
    await report.stop();
  }
}

/** The options of all classes. */
interface Wait {
  readonly timeout: number;
  readonly failWhenLocked: boolean;
  readonly signal: AbortSignal;
  readonly onWait: (wait: { holders: LockHolder[] }) => void;
}

async function acquireFile(
  { target: { file: path }, kind, lockClass, locker }: RunInvocation,
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

function heldPidFile(path: string, file: LockedFile): HeldLock {
  let written = process.pid;
  return {
    fd: file.fd,
    onStarted(pid) {
      if (replacePid(path, written, pid)) written = pid;
    },
    async release() {
      if (written !== process.pid) replacePid(path, written, process.pid);
      await file.close();
    },
  };
}
