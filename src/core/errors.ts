/**
 * The errors of this package, and the conversion of system errors into them.
 *
 * Structured cloning keeps the message of an error, and its name only if it is
 * the name of a built-in class. So `toJSON()` returns the fields as a plain
 * object, which can be cloned and passed to a constructor again.
 *
 * @module
 */

import { lstatSync } from "node:fs";
import { constants } from "node:os";
import process from "node:process";
import { errorCode, Unsupported } from "../../ffi/types.ts";
import type { LockHolder, SystemError } from "../../ffi/types.ts";
import { formatName, formatValue, shorten } from "../options/validate.ts";

/**
 * A holder of a lock on a server, such as a {@linkcode RedisLock}. Its process
 * may run on any machine, so it does not have a PID.
 */
export interface RemoteHolder {
  /** Identifies the acquisition: the `holderId` of its lease. */
  readonly holderId: string;
  /** Whether the lock is exclusive. A shared lock can have more holders. */
  readonly exclusive: boolean;
  /** The option `info` of its lock. `undefined` if it does not have one. */
  readonly info: unknown;
  /** Never there. Only a {@linkcode LockHolder} has it. */
  readonly pid?: undefined;
}

/** Options of the {@linkcode LockException} constructor. */
export interface LockExceptionOptions extends ErrorOptions {
  /** The path of the file. */
  path?: string | undefined;
  /** The file descriptor that the caller passed. */
  fd?: number | undefined;
  /** The name of the system error, such as `"EWOULDBLOCK"`. */
  code?: string | undefined;
  /** The positive number of the system error, as in errno(3). */
  errno?: number | undefined;
}

/** The plain object that {@linkcode LockException.toJSON} returns. */
export interface LockExceptionDetails
  extends Omit<LockExceptionOptions, "cause"> {
  /** The name of the error class, such as `"AlreadyLocked"`. */
  name: string;
  /** The message of the error. */
  message: string;
  /** {@linkcode AlreadyLocked.holder}, for that class only. */
  holder?: LockHolder | RemoteHolder | null | undefined;
  /** {@linkcode AlreadyLocked.holderPid}, for that class only. */
  holderPid?: number | null | undefined;
  /** {@linkcode AlreadyLocked.waited}, for that class only. */
  waited?: number | undefined;
}

/**
 * The base class of the errors that this package defines.
 *
 * `postMessage()` sends a structured clone of an error. The clone keeps the
 * message and the stack, whose first line contains the name. Deno and Node also
 * keep the cause. No runtime clones the class or the other properties. Send the
 * result of {@linkcode LockException.toJSON} if the receiver needs them.
 * `JSON.stringify()` uses it, too.
 *
 * @example Send an error to another thread
 * ```ts
 * import { AlreadyLocked } from "jsr:@x/portalock";
 *
 * const error = new AlreadyLocked("Cannot lock a.lock", { holderPid: 4711 });
 * const received = structuredClone(error.toJSON());
 * if (received.name === "AlreadyLocked") {
 *   console.error(new AlreadyLocked(received.message, received).holderPid);
 * }
 * ```
 */
export class LockException extends Error {
  /** `"LockException"`. */
  override name = "LockException";
  /** The path of the file, or `undefined` if the caller passed a descriptor. */
  readonly path: string | undefined;
  /** The file descriptor, if the caller passed one. */
  readonly fd: number | undefined;
  /** The name of the system error, such as `"EBADF"`. */
  readonly code: string | undefined;
  /** The positive number of the system error, as in errno(3). */
  readonly errno: number | undefined;

  /**
   * Constructs a new instance.
   *
   * @param message The message of the error.
   * @param options The file, the system error and the cause.
   */
  constructor(message: string, options: LockExceptionOptions = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.path = options.path;
    this.fd = options.fd;
    this.code = options.code;
    this.errno = options.errno;
  }

  /**
   * Implements `instanceof`. It is also true for an error of another copy of
   * this package, such as the CommonJS build, if its class has the same name.
   *
   * @param value Any value.
   * @returns Whether the value is an error of this class.
   */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return isInstance(this, value);
  }

  /**
   * Returns name, message, path, descriptor, `code` and `errno` as a plain
   * object.
   *
   * @returns An object that can be cloned, or serialized as JSON.
   */
  toJSON(): LockExceptionDetails {
    const { name, message, path, fd, code, errno } = this;
    return { name, message, path, fd, code, errno };
  }
}

/**
 * Thrown if another process, thread or object still holds the lock when the
 * wait is over.
 */
export class AlreadyLocked extends LockException {
  /** `"AlreadyLocked"`. */
  override name = "AlreadyLocked";
  /**
   * A process that holds the lock, or `null` if unknown.
   *
   * On Linux, the kernel names the process, unless Deno lacks `--allow-ffi`. It
   * exists, and one of its descriptors has the lock. (The descriptors of another
   * user's process cannot be read: it is the process that took the lock.)
   *
   * On other systems, only a `PidFileLock` knows its holder: its PID file names
   * a process that exists and is not this one. It is another process if the file
   * comes from another machine, or from a killed process whose PID was used
   * again.
   *
   * A lock in Redis names one of its holders, which may be on any machine, by
   * the identifier of the lease and its `info`. It is `null` if Python's
   * portalocker holds the lock, or the server does not allow to ask.
   */
  readonly holder: LockHolder | RemoteHolder | null;
  /** The PID of {@linkcode AlreadyLocked.holder}, or `null` if unknown. */
  readonly holderPid: number | null;
  /** The duration of the wait, in milliseconds. */
  readonly waited: number;

  /**
   * Constructs a new instance.
   *
   * @param message The message of the error.
   * @param options The file and the cause, the holder or its PID, and the
   * duration of the wait in milliseconds. `code` defaults to `"EWOULDBLOCK"`.
   * `"EDEADLK"` means that the thread would have waited for itself.
   */
  constructor(
    message: string,
    options: LockExceptionOptions & {
      holder?: LockHolder | RemoteHolder | null | undefined;
      holderPid?: number | null | undefined;
      waited?: number | undefined;
    } = {},
  ) {
    super(message, withCode(options, "EWOULDBLOCK"));
    this.holder = options.holder ?? null;
    this.holderPid = options.holderPid ?? this.holder?.pid ?? null;
    this.waited = options.waited ?? 0;
  }

  /**
   * Returns what {@linkcode LockException.toJSON} returns, with `holder`,
   * `holderPid` and `waited`.
   *
   * @returns An object that can be cloned, or serialized as JSON.
   */
  override toJSON(): LockExceptionDetails {
    const { holder, holderPid, waited } = this;
    return { ...super.toJSON(), holder, holderPid, waited };
  }
}

/**
 * Why a blocked thread would wait for itself: it holds the lock, or one of its
 * tasks is waiting for the lock.
 */
export type Deadlock = "holds" | "awaits";

const DEADLOCK_REMARKS: Record<Deadlock, string> = {
  holds: "this thread holds it, and would wait for itself: release it first",
  awaits: "a task of this thread waits for it, and the thread would wait for " +
    "itself: use the asynchronous method",
};

/** Creates the error of an acquisition that ended without the lock. */
export function alreadyLocked(
  message: string,
  deadlock: Deadlock | undefined,
  options: ConstructorParameters<typeof AlreadyLocked>[1] & object,
): AlreadyLocked {
  const ownPid = deadlock === "holds" ? process.pid : undefined;
  const holderPid = options.holderPid ?? options.holder?.pid ?? ownPid;
  const reload = holderPid === process.pid && reloadsInPlace()
    ? `; ${RELOAD_REMARK}`
    : "";
  if (!deadlock) return new AlreadyLocked(message + reload, options);
  return new AlreadyLocked(
    `${message}; ${DEADLOCK_REMARKS[deadlock]}${reload}`,
    {
      ...options,
      code: "EDEADLK",
      errno: constants.errno.EDEADLK,
      holderPid,
    },
  );
}

const RELOAD_REMARK =
  "a reload by --hot keeps the locks of the code before it: keep the lock " +
  "object in globalThis, and use it again";

/** Whether modules are evaluated again in the process, as by `bun --hot`. */
function reloadsInPlace(): boolean {
  return process.execArgv.includes("--hot");
}

/** Thrown if a file already exists that must not be replaced. */
export class AlreadyExists extends LockException {
  /** `"AlreadyExists"`. */
  override name = "AlreadyExists";
  /** The path of the file that keeps the new content, or `null`. */
  readonly preservedPath: string | null;

  /**
   * Constructs a new instance.
   *
   * @param message The message of the error.
   * @param options The file and the cause, and the file that keeps the new
   * content. `code` defaults to `"EEXIST"`.
   */
  constructor(
    message: string,
    options: LockExceptionOptions & {
      preservedPath?: string | null | undefined;
    } = {},
  ) {
    super(message, withCode(options, "EEXIST"));
    this.preservedPath = options.preservedPath ?? null;
  }
}

/** Thrown if a file is too large to be read into memory. */
export class FileTooLarge extends LockException {
  /** `"FileTooLarge"`. */
  override name = "FileTooLarge";

  /**
   * Constructs a new instance.
   *
   * @param message The message of the error.
   * @param options The file and the cause. `code` defaults to `"EFBIG"`.
   */
  constructor(message: string, options: LockExceptionOptions = {}) {
    super(message, withCode(options, "EFBIG"));
  }
}

/**
 * Thrown if the runtime or the file system cannot lock. The message says what to
 * do.
 */
export class LockUnsupported extends LockException {
  /** `"LockUnsupported"`. */
  override name = "LockUnsupported";

  /**
   * Constructs a new instance.
   *
   * @param message The message of the error.
   * @param options The file, the system error and the cause. `code` defaults to
   * `"ERR_LOCK_UNSUPPORTED"`.
   */
  constructor(message: string, options: LockExceptionOptions = {}) {
    super(message, withCode(options, "ERR_LOCK_UNSUPPORTED"));
  }
}

/**
 * The reason with which the `signal` of a holder aborts when its lock is lost:
 * another holder may have the lock already. The `cause` says why.
 */
export class LockLostError extends LockException {
  /** `"LockLostError"`. */
  override name = "LockLostError";

  /**
   * Constructs a new instance.
   *
   * @param message The message of the error.
   * @param options The file and the cause. `code` defaults to
   * `"ERR_LOCK_LOST"`. `"ERR_LOCK_TRANSFERRED"` means that the holder has
   * transferred its lease to another process.
   */
  constructor(message: string, options: LockExceptionOptions = {}) {
    super(message, withCode(options, "ERR_LOCK_LOST"));
  }
}

/** On the prototype of each class above: the name of the class. */
const KIND = Symbol.for("@x/portalock error");

const CLASSES = {
  LockException,
  AlreadyLocked,
  AlreadyExists,
  FileTooLarge,
  LockUnsupported,
  LockLostError,
};
for (const [kind, { prototype }] of Object.entries(CLASSES)) {
  Object.defineProperty(prototype, KIND, { value: kind });
}

/** The classes of different versions count as the same, too. */
function isInstance(type: { prototype: object }, value: unknown): boolean {
  if (Function.prototype[Symbol.hasInstance].call(type, value)) return true;
  // A class that the user has derived does not have a kind of its own.
  const kind = kindOf(type.prototype);
  if (kind === undefined || !isObject(value)) return false;
  let prototype = Object.getPrototypeOf(value);
  while (prototype !== null && kindOf(prototype) !== kind) {
    prototype = Object.getPrototypeOf(prototype);
  }
  return prototype !== null;
}

function kindOf(prototype: object): unknown {
  return Object.getOwnPropertyDescriptor(prototype, KIND)?.value;
}

function withCode(
  options: LockExceptionOptions,
  defaultCode: string,
): LockExceptionOptions {
  return { ...options, code: options.code ?? defaultCode };
}

/** The file that an error or an event is about. */
export interface ErrorSubject {
  readonly path?: string | undefined;
  /** The path when the current directory has changed since. */
  readonly absolutePath?: string | undefined;
  readonly fd?: number | null | undefined;
}

/** Formats a file for a message, its path with {@linkcode formatName}. */
export function formatSubject({ path, fd }: ErrorSubject): string {
  if (path === undefined) {
    return typeof fd === "number" ? `descriptor ${fd}` : "the file";
  }
  return formatName(path);
}

/** The codes of file systems that do not support locks. */
export const UNSUPPORTED_CODES: readonly string[] = [
  "ENOSYS",
  "EOPNOTSUPP",
  "ENOTSUP",
];

/**
 * Converts an error of opening a file into the error that the caller gets: a
 * {@linkcode LockUnsupported}, or the runtime's own error.
 */
export function toOpenError(
  subject: ErrorSubject,
  error: unknown,
  verb: "lock" | "write" = "lock",
): unknown {
  if (!(error instanceof Unsupported)) return addOwner(subject, error);
  return new LockUnsupported(
    `Cannot ${verb} ${formatSubject(subject)}: ${error.message}`,
    { ...errorFields(subject), cause: error },
  );
}

/**
 * {@linkcode toOpenError} for a file that is not opened through a symbolic link.
 * The system says "too many symbolic links" if there is one.
 */
export function toNoFollowError(
  subject: ErrorSubject,
  error: unknown,
): unknown {
  if (errorCode(error) !== "ELOOP" || !isSymlink(subject)) {
    return toOpenError(subject, error);
  }
  return new LockException(
    `Cannot lock ${formatSubject(subject)}: it is a symbolic link, which ` +
      "temporary, PID and semaphore locks refuse; remove it, or use the path " +
      "of its target",
    {
      ...errorFields(subject),
      code: "ELOOP",
      errno: constants.errno.ELOOP,
      cause: error,
    },
  );
}

/** Returns `false` for a path with a circle of links on the way. */
function isSymlink({ path, absolutePath = path }: ErrorSubject): boolean {
  try {
    return absolutePath !== undefined &&
      lstatSync(absolutePath).isSymbolicLink();
  } catch {
    return false;
  }
}

/** Returns the error of an acquisition whose time to open a file is over. */
export function timeoutError(
  subject: ErrorSubject,
  timeout: number,
): LockException {
  return new LockException(
    `Cannot lock ${formatSubject(subject)}: opening it took longer than the ` +
      `timeout of ${Math.round(timeout)} ms`,
    {
      ...errorFields(subject),
      code: "ETIMEDOUT",
      errno: constants.errno.ETIMEDOUT,
    },
  );
}

/**
 * Adds the owner of the file to the message of an `EACCES`. In a shared
 * directory, the usual reason is a file that another user created.
 */
function addOwner(
  { path, absolutePath = path }: ErrorSubject,
  error: unknown,
): unknown {
  if (errorCode(error) !== "EACCES" || absolutePath === undefined) return error;
  // It names another file than the system did.
  if (error instanceof LockException) return error;
  const { message, stack } = error as SystemError;
  try {
    const { uid } = lstatSync(absolutePath);
    const extended = `${message} (owned by user ${uid})`;
    // The stack contains the message, and runtimes print it if uncaught.
    Object.assign(error as Error, {
      message: extended,
      stack: stack?.replace(message, () => extended),
    });
  } catch {
    // The file does not exist, or its directory may not be searched.
  }
  return error;
}

/**
 * Converts a system error of locking into a {@linkcode LockException}. Other
 * errors are returned as they are, also an error with which the caller ended
 * the wait.
 */
export function toLockError(
  verb: "lock" | "relock" | "release",
  subject: ErrorSubject,
  error: unknown,
  deadline?: { wasCancelledWith(error: unknown): boolean },
): unknown {
  if (deadline?.wasCancelledWith(error)) return error;
  if (
    !isObject(error) || error instanceof LockException ||
    error instanceof Unsupported
  ) {
    return toOpenError(subject, error);
  }
  const { name, errno, message, syscall } = error;
  // Deno throws this error if the file is closed.
  const code = name === "BadResource" ? "EBADF" : errorCode(error);
  if (code === undefined) return toOpenError(subject, error);
  const prefix = `Cannot ${verb} ${formatSubject(subject)}: `;
  const details = { ...errorFields(subject), code, errno, cause: error };
  if (code === "EINVAL" && syscall === "fcntl") {
    return new LockUnsupported(
      `${prefix}the file system or the kernel does not support these record ` +
        `locks (${code}); use the locker "flock"`,
      details,
    );
  }
  if (code === "EBADF" && verb !== "release" && subject.path !== undefined) {
    // The file is open, so NFS rejects its mode: see flock(2), "NFS details".
    return new LockException(
      `${prefix}${message} (${code}); this file system requires a file open ` +
        "for writing for an exclusive lock, and one open for reading for a " +
        'shared lock: use mode "r+" or "a+"',
      details,
    );
  }
  if (code === "EDEADLK") {
    return new LockException(
      `${prefix}deadlock, its holder waits for a lock that this process ` +
        `holds (${code}); release that lock first`,
      details,
    );
  }
  if (UNSUPPORTED_CODES.includes(code)) {
    return new LockUnsupported(
      `${prefix}the file system does not support locks (${code}); ` +
        "put the lock file on another file system",
      details,
    );
  }
  return new LockException(`${prefix}${message} (${code})`, details);
}

/**
 * Combines an error of a release with the error that came before it, as `using`
 * does: a `SuppressedError`, or an error of the same shape where the runtime
 * does not have that class. Its `cause` is the earlier error, too.
 */
export function suppressedError(error: unknown, suppressed: unknown): Error {
  const message = `${messageOf(error)}; it suppressed an earlier error: ${
    messageOf(suppressed)
  }`;
  const { SuppressedError } = globalThis as {
    SuppressedError?: new (...args: unknown[]) => Error;
  };
  const combined = SuppressedError
    ? new SuppressedError(error, suppressed, message)
    : new Error(message);
  const fields = { name: "SuppressedError", error, suppressed };
  for (const [key, value] of Object.entries({ ...fields, cause: suppressed })) {
    Object.defineProperty(combined, key, {
      value,
      configurable: true,
      writable: true,
    });
  }
  return combined;
}

/** How much of an error's message the message of another error repeats. */
export const MAX_MESSAGE = 1000;

/** Returns the message of any thrown value. Does not throw itself. */
function messageOf(error: unknown): string {
  try {
    const message = isObject(error) ? error.message : undefined;
    if (typeof message === "string" && message !== "") {
      return shorten(message, MAX_MESSAGE);
    }
  } catch {
    // A getter, or a revoked proxy.
  }
  return formatValue(error);
}

/** Not `instanceof`, because system errors may come from another realm. */
function isObject(error: unknown): error is Partial<SystemError> {
  return typeof error === "object" && error !== null;
}

/** Combines the errors of several releases. */
export function aggregateReleaseErrors(errors: unknown[]): AggregateError {
  return new AggregateError(
    errors,
    "Cannot release every lock; see the property errors",
  );
}

function errorFields({ path, fd }: ErrorSubject): LockExceptionOptions {
  return { path, fd: fd ?? undefined };
}
