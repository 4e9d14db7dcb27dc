/** Runs a program that inherits the lock, and passes its exit status on. */

import { ERRNO } from "../../../ffi/posix/command.ts";
import { Failure, OS_ERROR, UNAVAILABLE } from "../exit_status.ts";
import type { HeldLock, RunInvocation, System } from "../types.ts";

/** The status of a program that a signal ended, as shells report it. */
export const SIGNAL_STATUS = 128;

/**
 * Starts the program, and returns its PID.
 *
 * @param fd The descriptor of the lock, if there is one.
 */
export function startProgram(
  { host, calls }: System,
  { fd, environment }: Pick<HeldLock, "fd" | "environment">,
  { target, close, verbose, noFork }: RunInvocation,
): number {
  const { program, args } = target;
  if (verbose) host.write(1, `portalock: executing ${program}\n`);
  calls.restoreStreams();
  // Node and Bun mark them to be closed.
  if (host.marksInherited) {
    for (const each of [0, 1, 2, ...calls.inherited]) {
      calls.setInherited(each, true);
    }
  }
  if (fd !== null) calls.setInherited(fd, !close);
  const pid = noFork
    ? calls.exec(program, args)
    : calls.spawn(program, args, environment);
  if (pid >= 0) return pid;
  throw new Failure(
    pid === -ERRNO.ENOMEM ? OS_ERROR : UNAVAILABLE,
    `failed to execute ${program}: ${calls.errorText(pid)}`,
  );
}

/**
 * Runs the program and returns its exit status.
 *
 * The program inherits the descriptor, so it keeps the lock if this process is
 * killed. This process waits in the kernel and handles no signal, so signals
 * have the same effect as on flock(1): those of a terminal reach both processes.
 */
export function runProgram(
  system: System,
  lock: { readonly fd: number },
  invocation: RunInvocation,
): number {
  const { calls } = system;
  calls.resetSignals();
  const end = calls.wait(startProgram(system, lock, invocation));
  if (typeof end === "number") {
    throw new Failure(OS_ERROR, `waitpid failed: ${calls.errorText(end)}`);
  }
  return "signal" in end ? SIGNAL_STATUS + end.signal : end.status;
}
