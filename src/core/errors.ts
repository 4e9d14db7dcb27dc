/** The errors of this package, and how others become one of them. */

import { lstatSync } from "node:fs";
import { Unsupported } from "../../ffi/types.ts";
import type { SystemError } from "../../ffi/types.ts";

/** What a {@linkcode LockException} can tell besides its message. */
export interface LockExceptionOptions extends ErrorOptions {
  /** The file that was to be locked. */
  path?: string;
  /** The descriptor that was to be locked. */
  fd?: number;
  /** Name of the system's error, such as `"EWOULDBLOCK"`. */
  code?: string;
  /** Number of the system's error as in errno(3): positive. */
  errno?: number;
}

/** What {@linkcode LockException.toJSON} gives. */
export interface LockExceptionDetails
  extends Omit<LockExceptionOptions, "cause"> {
  /** The name of the class, such as `"AlreadyLocked"`. */
  name: string;
  /** The message. */
  message: string;
  /** {@linkcode AlreadyLocked.holderPid}, if it is one. */
  holderPid?: number | null;
  /** {@linkcode AlreadyLocked.waited}, if it is one. */
  waited?: number;
}

/**
 * Anything that went wrong with a lock. The other errors extend it.
 *
 * The structured clone of an error, which is what `postMessage` sends, keeps
 * the message and the stack, which begins with the name, and on Deno and Node
 * the cause; no runtime clones the class or other properties. Send
 * {@linkcode LockException.toJSON} where they matter; it is also what
 * `JSON.stringify` takes.
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
  /** The file that was to be locked, where there is a name. */
  readonly path: string | undefined;
  /** The descriptor that was to be locked, where the caller gave one. */
  readonly fd: number | undefined;
  /** Name of the system's error, such as `"EBADF"`. */
  readonly code: string | undefined;
  /** Number of the system's error as in errno(3): positive. */
  readonly errno: number | undefined;

  /** Makes an error that says more than its message. */
  constructor(message: string, options: LockExceptionOptions = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.path = options.path;
    this.fd = options.fd;
    this.code = options.code;
    this.errno = options.errno;
  }

  /** Everything but the stack and the cause, as an object that can be sent. */
  toJSON(): LockExceptionDetails {
    const { name, message, path, fd, code, errno } = this;
    return { name, message, path, fd, code, errno };
  }
}

/** Somebody else holds the lock, and the wait for it is over. */
export class AlreadyLocked extends LockException {
  /** `"AlreadyLocked"`. */
  override name = "AlreadyLocked";
  /** The process that holds the lock, `null` where the system cannot tell. */
  readonly holderPid: number | null;
  /** How long the wait lasted, in milliseconds. */
  readonly waited: number;

  /** `waited` is in milliseconds. */
  constructor(
    message: string,
    options: LockExceptionOptions & {
      holderPid?: number | null;
      waited?: number;
    } = {},
  ) {
    super(message, { code: "EWOULDBLOCK", ...options });
    this.holderPid = options.holderPid ?? null;
    this.waited = options.waited ?? 0;
  }

  /** {@linkcode LockException.toJSON}, with the holder and the wait. */
  override toJSON(): LockExceptionDetails {
    const { holderPid, waited } = this;
    return { ...super.toJSON(), holderPid, waited };
  }
}

/** A file that must not exist does: nothing was replaced. */
export class AlreadyExists extends LockException {
  /** `"AlreadyExists"`. */
  override name = "AlreadyExists";
  /** Where what was written is kept, `null` if nothing was. */
  readonly preservedPath: string | null;

  /** `code` is `"EEXIST"`. */
  constructor(
    message: string,
    options: LockExceptionOptions & { preservedPath?: string | null } = {},
  ) {
    super(message, { code: "EEXIST", ...options });
    this.preservedPath = options.preservedPath ?? null;
  }
}

/** The file is larger than what was to be done with it allows. */
export class FileTooLarge extends LockException {
  /** `"FileTooLarge"`. */
  override name = "FileTooLarge";

  /** `code` is `"EFBIG"`. */
  constructor(message: string, options: LockExceptionOptions = {}) {
    super(message, { code: "EFBIG", ...options });
  }
}

/** The runtime or the file system cannot lock; the message says what to do. */
export class LockUnsupported extends LockException {
  /** `"LockUnsupported"`. */
  override name = "LockUnsupported";
}

/** What an error is about: a file by its path, or by its descriptor. */
export interface ErrorSubject {
  readonly path?: string;
  readonly fd?: number | null;
}

/** A subject as messages show it: a path in quotes if it could mislead. */
export function formatSubject({ path, fd }: ErrorSubject): string {
  if (path === undefined) {
    return typeof fd === "number" ? `descriptor ${fd}` : "the file";
  }
  return /^[\p{L}\p{N}._\-+@~%/\\:]+$/u.test(path)
    ? path
    : JSON.stringify(path);
}

/** What a file system says that has no locks at all. */
export const UNSUPPORTED_CODES: readonly string[] = [
  "ENOSYS",
  "EOPNOTSUPP",
  "ENOTSUP",
];

/** Turns what keeps a file from being opened into what the caller sees. */
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

/** In shared directories the files of others are the usual reason. */
function addOwner({ path }: ErrorSubject, error: unknown): unknown {
  const { code, message, stack } = error as SystemError;
  if (code !== "EACCES" || path === undefined) return error;
  try {
    const { uid } = lstatSync(path);
    const more = `${message} (it belongs to user ${uid})`;
    // The stack has the message, too, and is what an uncaught error shows.
    Object.assign(error as Error, {
      message: more,
      stack: stack?.replace(message, () => more),
    });
  } catch {
    // Then it does not even exist, or may not be looked at.
  }
  return error;
}

/**
 * Turns what the system said about a lock into a {@linkcode LockException}.
 * Errors that are none of the system's come back as they are, also those with
 * which the caller ended a wait.
 */
export function toLockError(
  verb: "lock" | "relock" | "release",
  subject: ErrorSubject,
  error: unknown,
  deadline?: { wasCancelledWith(error: unknown): boolean },
): unknown {
  if (deadline?.wasCancelledWith(error)) return error;
  const { name, errno, message, syscall } = error as SystemError;
  // Deno's word for a file that is closed.
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
      `${prefix}its file system or this kernel has no such record locks ` +
        `(${code}); use the locker "flock"`,
      details,
    );
  }
  if (code === "EBADF" && verb !== "release" && subject.path !== undefined) {
    // The file is open: it is the mode that NFS does not take.
    return new LockException(
      `${prefix}${message} (${code}): its file system locks exclusively only ` +
        "what is open for writing, and shares only what is open for reading; " +
        'use mode "r+" or "a+"',
      details,
    );
  }
  if (code === "EDEADLK") {
    return new LockException(
      `${prefix}its holder waits for a lock of this process (${code})`,
      details,
    );
  }
  if (UNSUPPORTED_CODES.includes(code)) {
    return new LockUnsupported(
      `${prefix}its file system has no locks (${code}); ` +
        "put the lock file on another one",
      details,
    );
  }
  return new LockException(`${prefix}${message} (${code})`, details);
}

/** What several releases threw, together. */
export function aggregateReleaseErrors(errors: unknown[]): AggregateError {
  return new AggregateError(
    errors,
    "Cannot release all files that were locked",
  );
}

function errorFields(
  { path, fd }: ErrorSubject,
): { path?: string; fd?: number } {
  return { path, fd: fd ?? undefined };
}
