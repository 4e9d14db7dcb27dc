/** The exit statuses of the command: those of flock(1), from sysexits.h. */

import { printable } from "../options/printable.ts";

/** Another process has the lock, unless `-E` says otherwise. */
export const CONFLICT = 1;
/** EX_USAGE: the command line is wrong. */
export const USAGE = 64;
/** EX_DATAERR: the file cannot be locked. */
export const DATA_ERROR = 65;
/** EX_NOINPUT: the file cannot be opened. */
export const NO_INPUT = 66;
/** EX_UNAVAILABLE: the program cannot be executed. */
export const UNAVAILABLE = 69;
/** EX_SOFTWARE: a defect of this program. */
export const SOFTWARE = 70;
/** EX_OSERR: the system lacks memory, descriptors or locks. */
export const OS_ERROR = 71;
/** EX_TEMPFAIL: the lock in Redis was lost while the command ran. */
export const LOCK_LOST = 75;
/** EX_CANTCREAT: the file cannot be created. */
export const CANNOT_CREATE = 73;

/**
 * Ends the command with a message and a status. The message may contain names,
 * so what a terminal may obey is escaped.
 */
export class Failure extends Error {
  readonly status: number;

  /** @param hint Lines that follow the message. */
  constructor(status: number, message: string, hint = "") {
    super(printable(message) + hint);
    this.status = status;
  }
}

/** Ends the command because the command line is wrong. */
export class UsageError extends Failure {
  constructor(message: string, hint = "") {
    super(USAGE, message, hint);
  }
}

const TRY_HELP = "\nTry 'portalock --help' for more information.";

/** A {@linkcode UsageError} that refers to the help. */
export function usageError(message: string): UsageError {
  return new UsageError(message, TRY_HELP);
}
