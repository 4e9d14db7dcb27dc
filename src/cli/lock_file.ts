/**
 * Locks a file or a descriptor and runs a program, as flock(1) does.
 *
 * Another process may have the lock, so there are two ways. If the first attempt
 * succeeds, which it mostly does, nothing else is loaded. If not, `wait.ts` is,
 * and the library with it.
 *
 * @module
 */

import type { CommandCalls } from "../../ffi/posix/command.ts";
import { ERRNO } from "../../ffi/posix/command.ts";
import {
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
} from "../../ffi/posix/constants.ts";
import type { Host } from "../../ffi/runtime/host.ts";
import {
  CANNOT_CREATE,
  DATA_ERROR,
  Failure,
  NO_INPUT,
  OS_ERROR,
} from "./exit_status.ts";
import type { Invocation } from "./options.ts";
import { runProgram } from "./run_program.ts";

/** The runtime and the system. */
export interface System {
  readonly host: Host;
  readonly calls: CommandCalls;
}

/** A file that is locked, or is to be. */
export interface OpenLock {
  fd: number;
  /** What messages call it. */
  readonly name: string;
  /** The path, if it was opened here. */
  readonly path?: string;
  /** Whether it is open for writing. */
  writable: boolean;
}

const OPERATIONS = { exclusive: LOCK_EX, shared: LOCK_SH, unlock: LOCK_UN };

/** Locks, runs the program, and returns the exit status. */
export async function lockAndRun(
  system: System,
  invocation: Invocation,
): Promise<number> {
  const { host } = system;
  const { target, verbose } = invocation;
  const lock = "fd" in target
    ? { fd: target.fd, name: String(target.fd), writable: true }
    : openLockFile(system, target.file);
  const start = performance.now();
  const locked = tryLock(system, lock, invocation) ||
    await waitForLock(system, lock, invocation);
  if (!locked) {
    if (verbose) {
      host.write(
        2,
        invocation.timeout > 0
          ? "portalock: timeout while waiting to get lock\n"
          : "portalock: failed to get lock\n",
      );
    }
    return invocation.conflictStatus;
  }
  if (verbose) {
    const seconds = ((performance.now() - start) / 1000).toFixed(6);
    host.write(1, `portalock: getting lock took ${seconds} seconds\n`);
  }
  return "fd" in target
    ? 0
    : runProgram(system, lock, { ...invocation, target });
}

async function waitForLock(
  system: System,
  lock: OpenLock,
  invocation: Invocation,
): Promise<boolean> {
  if (invocation.timeout <= 0) return false;
  const { waitForLock } = await import("./wait.ts");
  return await waitForLock(system, lock, invocation);
}

/**
 * Opens the file for reading, which suffices for flock(2), and creates it. A
 * directory cannot be created.
 */
function openLockFile({ calls }: System, path: string): OpenLock {
  let fd = calls.open(path, { write: false, create: true });
  if (fd === -ERRNO.EISDIR) {
    fd = calls.open(path, { write: false, create: false });
  }
  if (fd >= 0) return { fd, name: path, path, writable: false };
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

/** Attempts once. Returns whether the file is locked, or unlocked with `-u`. */
function tryLock(
  system: System,
  lock: OpenLock,
  { kind }: Invocation,
): boolean {
  return applyLock(system, lock, OPERATIONS[kind] | LOCK_NB);
}

/** Blocks this process until the file is locked. */
export function blockUntilLocked(
  system: System,
  lock: OpenLock,
  { kind }: Invocation,
): void {
  applyLock(system, lock, OPERATIONS[kind]);
}

/**
 * Applies an operation of flock(2). Over NFS, an exclusive lock requires a file
 * that is open for writing, so it is opened again.
 */
function applyLock(
  system: System,
  lock: OpenLock,
  operation: number,
): boolean {
  const { calls } = system;
  const result = calls.flock(lock.fd, operation);
  if (typeof result === "boolean") return result;
  const { path, writable } = lock;
  const needsWrite = result === -ERRNO.EBADF || result === -ERRNO.EIO;
  if (needsWrite && path !== undefined && !writable) {
    const fd = calls.open(path, { write: true, create: false });
    if (fd >= 0) {
      calls.close(lock.fd);
      lock.fd = fd;
      lock.writable = true;
      return applyLock(system, lock, operation);
    }
  }
  throw new Failure(
    calls.isExhausted(result) ? OS_ERROR : DATA_ERROR,
    `${lock.name}: ${calls.errorText(result)}`,
  );
}
