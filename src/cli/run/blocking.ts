/** Runs a program that inherits the lock, and passes its exit status on. */

import { ERRNO } from "../../../ffi/posix/command.ts";
import type { CommandCalls } from "../../../ffi/posix/command.ts";
import { Failure, OS_ERROR, UNAVAILABLE } from "../exit_status.ts";
import type { Program, System } from "../types.ts";
import type { Invocation } from "../grammar/options.ts";

/** The status of a program that a signal ended, as shells report it. */
export const SIGNAL_STATUS = 128;

/** Shells give the files of redirections numbers below this one. */
const SHELL_DESCRIPTORS = 256;

/** Passes on what this process inherited, such as another lock of the shell. */
function passOnInherited(calls: CommandCalls): void {
  for (const fd of calls.openDescriptors(SHELL_DESCRIPTORS)) {
    if (fd < 3) calls.makeTerminalBlocking(fd);
    if (fd < 3 || calls.isInherited(fd, true)) calls.setInherited(fd, true);
  }
}

/**
 * Runs the program and returns its exit status.
 *
 * The program inherits the descriptor, so it keeps the lock if this process is
 * killed. This process waits in the kernel and handles no signal, so signals
 * have the same effect as on flock(1): those of a terminal reach both processes.
 */
export function runProgram(
  { host, calls }: System,
  { fd }: { readonly fd: number },
  { target, close, noFork, verbose }: Invocation & { target: Program },
): number {
  const { program, args } = target;
  if (verbose) host.write(1, `portalock: executing ${program}\n`);
  calls.resetSignals();
  if (host.marksInherited) passOnInherited(calls);
  calls.setInherited(fd, !close);
  if (noFork) throw failedToExecute(program, calls.exec(program, args));
  const pid = calls.spawn(program, args);
  if (pid < 0) throw failedToExecute(program, pid);
  const end = calls.wait(pid);
  if (typeof end === "number") {
    throw new Failure(OS_ERROR, `waitpid failed: ${calls.errorText(end)}`);
  }
  return "signal" in end ? SIGNAL_STATUS + end.signal : end.status;

  function failedToExecute(program: string, errno: number): Failure {
    return new Failure(
      errno === -ERRNO.ENOMEM ? OS_ERROR : UNAVAILABLE,
      `failed to execute ${program}: ${calls.errorText(errno)}`,
    );
  }
}
