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
import { Unsupported } from "../../ffi/types.ts";
import type { LockHolder, SystemError } from "../../ffi/types.ts";

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
  holder?: LockHolder | null | undefined;
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
   */
  readonly holder: LockHolder | null;
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
   */
  constructor(
    message: string,
    options: LockExceptionOptions & {
      holder?: LockHolder | null | undefined;
      holderPid?: number | null | undefined;
      waited?: number | undefined;
    } = {},
  ) {
    super(message, { code: "EWOULDBLOCK", ...options });
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
    super(message, { code: "EEXIST", ...options });
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
    super(message, { code: "EFBIG", ...options });
  }
}

/**
 * Thrown if the runtime or the file system cannot lock. The message says which
 * flag, package or file system to use.
 */
export class LockUnsupported extends LockException {
  /** `"LockUnsupported"`. */
  override name = "LockUnsupported";
}

/** The file that an error or an event is about. */
export interface ErrorSubject {
  readonly path?: string | undefined;
  /** The path when the current directory has changed since. */
  readonly absolutePath?: string | undefined;
  readonly fd?: number | null | undefined;
}

/**
 * Formats a file for a message. A path is quoted if it contains a character
 * that could be mistaken for a part of the sentence.
 */
export function formatSubject({ path, fd }: ErrorSubject): string {
  if (path === undefined) {
    return typeof fd === "number" ? `descriptor ${fd}` : "the file";
  }
  return /^[\p{L}\p{N}._\-+@~%/\\:]+$/u.test(path)
    ? path
    : JSON.stringify(path);
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
 * Adds the owner of the file to the message of an `EACCES`. In a shared
 * directory, the usual reason is a file that another user created.
 */
function addOwner(
  { path, absolutePath = path }: ErrorSubject,
  error: unknown,
): unknown {
  const { code, message, stack } = error as SystemError;
  if (code !== "EACCES" || absolutePath === undefined) return error;
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
  const { name, errno, message, syscall } = error as SystemError;
  // Deno throws this error if the file is closed.
  const code = name === "BadResource" ? "EBADF" : (error as SystemError).code;
  if (
    error instanceof LockException || error instanceof Unsupported ||
    typeof code !== "string"
  ) {
    return toOpenError(subject, error);
  }
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
