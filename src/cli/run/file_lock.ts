/**
 * Locks a file or a descriptor and runs a program, as flock(1) does.
 *
 * Another process may have the lock, so there are two ways. If the first attempt
 * succeeds, which it mostly does, nothing else is loaded. If not, `wait.ts` is,
 * and the library with it.
 *
 * @module
 */

import type { CommandCalls } from "../../../ffi/posix/command.ts";
import { ERRNO } from "../../../ffi/posix/command.ts";
import {
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
} from "../../../ffi/posix/constants.ts";
import {
  CANNOT_CREATE,
  DATA_ERROR,
  Failure,
  NO_INPUT,
  OS_ERROR,
} from "../exit_status.ts";
import type { SystemError } from "../../../ffi/types.ts";
import type { Invocation } from "../grammar/options.ts";
import { runProgram } from "./blocking.ts";
import type { OpenLock, System } from "../types.ts";
import { reportAcquisition } from "./verbose.ts";

const OPERATIONS = { exclusive: LOCK_EX, shared: LOCK_SH, unlock: LOCK_UN };

/** Locks, runs the program, and returns the exit status. */
export async function lockAndRun(
  system: System,
  invocation: Invocation,
): Promise<number> {
  const { host } = system;
  const { target } = invocation;
  const lock = "fd" in target
    ? givenFd(system, target.fd)
    : openLockFile(system, target.file, invocation);
  const acquired = await reportAcquisition(
    host,
    invocation,
    () => acquire(system, lock, invocation),
  );
  if (!acquired) return invocation.conflictStatus;
  if ("fd" in target) return 0;
  return runProgram(system, lock, { ...invocation, target });
}

async function acquire(
  { host, calls }: System,
  lock: OpenLock,
  invocation: Invocation,
): Promise<boolean> {
  const { locker, kind, timeout } = invocation;
  if (locker.name === "flock") {
    const operation = OPERATIONS[kind] | LOCK_NB;
    if (applyFlock(calls, lock, operation)) return true;
    if (timeout <= 0) return false;
  }
  const { waitForLock } = await import("./wait.ts");
  try {
    return await waitForLock({ host, calls }, lock, invocation);
  } catch (error) {
    const { errno, message } = error as SystemError;
    throw lockFailure(calls, lock, errno, message);
  }
}

/**
 * A descriptor that the shell opened. One that the runtime opened for itself is
 * as unknown to the caller as one that does not exist.
 */
function givenFd({ calls }: System, fd: number): OpenLock {
  const lock = { fd, name: String(fd) };
  if (calls.isInherited(fd)) return lock;
  throw lockFailure(calls, lock, ERRNO.EBADF);
}

/**
 * Opens the file as flock(1) does: for reading, which suffices for flock(2), or
 * as fcntl(2) requires. Creates it. A directory cannot be created.
 */
function openLockFile(
  { calls }: System,
  path: string,
  { locker, kind }: Invocation,
): OpenLock {
  const write = locker.name !== "flock" && kind === "exclusive";
  let fd = calls.open(path, { write, create: true });
  if (fd === -ERRNO.EISDIR) {
    fd = calls.open(path, { write: false, create: false });
  }
  if (fd >= 0) return { fd, name: path, ...write ? {} : { reopen: path } };
  throw new Failure(
    openStatus(-fd),
    `cannot open lock file ${path}: ${calls.errorText(fd)}`,
  );
}

function openStatus(errno: number): number {
  const { ENOMEM, EMFILE, ENFILE, EROFS, ENOSPC } = ERRNO;
  if (([ENOMEM, EMFILE, ENFILE] as number[]).includes(errno)) return OS_ERROR;
  return ([EROFS, ENOSPC] as number[]).includes(errno)
    ? CANNOT_CREATE
    : NO_INPUT;
}

/**
 * Applies an operation of flock(2) once. Over NFS, an exclusive lock requires a
 * file that is open for writing, so it is opened again.
 *
 * @returns `false` if another process has the lock.
 */
function applyFlock(
  calls: CommandCalls,
  lock: OpenLock,
  operation: number,
): boolean {
  const result = calls.flock(lock.fd, operation);
  if (typeof result === "boolean") return result;
  const { reopen } = lock;
  const needsWrite = result === -ERRNO.EBADF || result === -ERRNO.EIO;
  if (needsWrite && reopen !== undefined) {
    const fd = calls.open(reopen, { write: true, create: false });
    if (fd >= 0) {
      calls.close(lock.fd);
      lock.fd = fd;
      delete lock.reopen;
      return applyFlock(calls, lock, operation);
    }
  }
  throw lockFailure(calls, lock, result);
}

function lockFailure(
  calls: CommandCalls,
  { name }: OpenLock,
  errno: number,
  text: string = calls.errorText(errno),
): Failure {
  const status = calls.isExhausted(errno) ? OS_ERROR : DATA_ERROR;
  return new Failure(status, `${name}: ${text}`);
}
