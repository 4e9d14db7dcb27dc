/**
 * File locks and atomic file writes for Deno, Bun and Node.
 *
 * The kernel releases a lock when the process that holds it exits or crashes.
 * Locks are shared with Python's portalocker and flock(1) on the same files.
 *
 * @example Hold a lock while a function runs
 * ```ts
 * import { Lock } from "jsr:@x/portalock";
 *
 * await new Lock("report.lock").run(async () => {
 *   // No other process holds this lock now.
 * });
 * ```
 *
 * @module
 */

export type { AtomicOptions } from "./src/atomic/options.ts";
export {
  AtomicFile,
  openAtomic,
  writeAtomic,
  writeAtomicSync,
} from "./src/atomic/atomic_file.ts";
export {
  AlreadyExists,
  AlreadyLocked,
  FileTooLarge,
  LockException,
  type LockExceptionDetails,
  type LockExceptionOptions,
  LockLostError,
  LockUnsupported,
  type RemoteHolder,
} from "./src/core/errors.ts";
export {
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
  LockFlags,
} from "./src/options/flags.ts";
export { Lock } from "./src/lock/lock.ts";
export { Acquirable } from "./src/wait/acquirable.ts";
export { LockBase } from "./src/lock/lock_base.ts";
export type {
  FileArgument,
  FileInfo,
  LockHolder,
  SelfLockingFile,
} from "./ffi/types.ts";
export { lockHolders } from "./src/core/holders.ts";
export { LockedFile } from "./src/file/locked_file.ts";
export { lockAll, LockedFiles } from "./src/lock/lock_all.ts";
export { lock, lockSync, unlock } from "./src/lock/low_level.ts";
export {
  BoundedSemaphore,
  NamedBoundedSemaphore,
} from "./src/lock/bounded_semaphore.ts";
export { PidFileLock } from "./src/lock/pid_file_lock.ts";
export { RLock } from "./src/lock/rlock.ts";
export { TemporaryFileLock } from "./src/lock/temporary_file_lock.ts";
export { OpenFile } from "./src/file/open_file.ts";
export { SeekMode } from "./src/file/open_file_arguments.ts";
export type { FileMode } from "./src/options/open_mode.ts";
export {
  type AcquireOptions,
  DEFAULT_CHECK_INTERVAL,
  DEFAULT_TIMEOUT,
  type LastingWait,
} from "./src/options/acquire_options.ts";
export type {
  BoundedSemaphoreOptions,
  LockOptions,
  TemporaryFileLockOptions,
} from "./src/options/lock_options.ts";
export { updateFile, type UpdateOptions } from "./src/atomic/update_file.ts";
