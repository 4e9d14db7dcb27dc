/** Why a path cannot be tested, and what to do. */

import { formatName } from "../../options/validate.ts";
import {
  CANNOT_CREATE,
  Failure,
  NO_INPUT,
  OS_ERROR,
  UNAVAILABLE,
} from "../exit_status.ts";
import { NoAnswer, ProbeEnded, ProbeError } from "./probe_process.ts";

/** Thrown if the tests cannot run. It has the exit status of the command. */
export class CannotTest extends Failure {
  override name = "CannotTest";
  /** The path, as it was given. */
  readonly path: string;
  /** The name of the system error, such as `"ENOENT"`. */
  readonly code: string | undefined;

  /**
   * Constructs a new instance.
   *
   * @param path The path, as it was given.
   * @param status The exit status.
   * @param reason Why it cannot be tested, and what to do.
   * @param options The system error.
   */
  constructor(
    path: string,
    status: number,
    reason: string,
    { code, cause }: { code?: string | undefined; cause?: unknown } = {},
  ) {
    const suffix = code === undefined ? "" : ` (${code})`;
    super(status, `Cannot test ${formatName(path)}: ${reason}${suffix}`);
    this.path = path;
    this.code = code;
    if (cause !== undefined) this.cause = cause;
  }
}

/** What an error means, and what to do about it, by its code. */
const ADVICE: Readonly<Record<string, readonly [status: number, string]>> = {
  ENOENT: [
    NO_INPUT,
    "it does not exist; create it, or pass a path that exists",
  ],
  ENOTDIR: [
    NO_INPUT,
    "a part of the path is not a directory; correct the path",
  ],
  ELOOP: [NO_INPUT, "its symbolic links are a circle; correct them"],
  ENAMETOOLONG: [NO_INPUT, "the path is too long; pass a shorter one"],
  EROFS: [
    CANNOT_CREATE,
    "the file system is mounted read-only; mount it for writing, or pass a " +
    "directory that can be written",
  ],
  ENOSPC: [CANNOT_CREATE, "the file system is full; remove some files"],
  EDQUOT: [
    CANNOT_CREATE,
    "the quota of this user is used up; remove some files",
  ],
};

/**
 * Converts the error of a probe into a {@linkcode CannotTest}.
 *
 * @param path The path, as it was given.
 * @param result What the probe does.
 * @param directory The directory in which it creates a file, if it does.
 */
export async function explained<T>(
  path: string,
  result: Promise<T>,
  directory?: string,
): Promise<T> {
  try {
    return await result;
  } catch (cause) {
    throw explain(path, cause, directory);
  }
}

function explain(
  path: string,
  cause: unknown,
  directory: string | undefined,
): unknown {
  if (cause instanceof ProbeEnded) {
    return new CannotTest(path, UNAVAILABLE, cause.message, { cause });
  }
  if (cause instanceof NoAnswer) {
    return new CannotTest(path, OS_ERROR, cause.message, {
      code: "ETIMEDOUT",
      cause,
    });
  }
  if (!(cause instanceof ProbeError)) return cause;
  const { message } = cause.report;
  const code = cause.report.code ?? undefined;
  const [status, reason] = ADVICE[code ?? ""] ??
    (code === "EACCES" || code === "EPERM"
      ? permissionAdvice(directory)
      : [OS_ERROR, message]);
  return new CannotTest(path, status, reason, { code, cause });
}

function permissionAdvice(
  directory: string | undefined,
): [status: number, reason: string] {
  return directory === undefined
    ? [
      NO_INPUT,
      "this user may not search its directory; change the permissions, or " +
      "run as another user",
    ]
    : [
      CANNOT_CREATE,
      `this user may not create files in ${formatName(directory)}; pass a ` +
      "directory that this user may write to, or run as another user",
    ];
}
