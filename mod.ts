/**
 * File locks for Deno, Bun and Node that the kernel frees when a process dies,
 * shared with Python's portalocker and flock(1) on the same files.
 *
 * @example
 * ```ts
 * import { Lock } from "jsr:@x/portalock";
 *
 * await new Lock("report.lock").run(async () => {
 *   // Nobody else is here.
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
} from "./src/atomic_file.ts";
export {
  AlreadyExists,
  AlreadyLocked,
  FileTooLarge,
  LockException,
  type LockExceptionDetails,
  type LockExceptionOptions,
  LockUnsupported,
} from "./src/errors.ts";
export { LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, LockFlags } from "./src/flags.ts";
export { Lock } from "./src/lock.ts";
export { LockBase } from "./src/lock_base.ts";
export type {
  FileArgument,
  FileInfo,
  LockHolder,
  SelfLockingFile,
} from "./ffi/types.ts";
export { lockHolders } from "./src/holders.ts";
export { LockedFile } from "./src/locked_file.ts";
export { lockAll, LockedFiles } from "./src/lock_all.ts";
export { lock, lockSync, unlock } from "./src/low_level.ts";
export {
  BoundedSemaphore,
  NamedBoundedSemaphore,
} from "./src/bounded_semaphore.ts";
export { PidFileLock } from "./src/pid_file_lock.ts";
export { RLock } from "./src/rlock.ts";
export { TemporaryFileLock } from "./src/temporary_file_lock.ts";
export { OpenFile } from "./src/open_file.ts";
export { SeekMode } from "./src/open_file_arguments.ts";
export type { FileMode } from "./src/open_mode.ts";
export type { AcquireOptions, LastingWait } from "./src/acquire_options.ts";
export type {
  BoundedSemaphoreOptions,
  LockOptions,
  TemporaryFileLockOptions,
} from "./src/options.ts";
export { updateFile, type UpdateOptions } from "./src/update_file.ts";
