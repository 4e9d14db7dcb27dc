/** Runs a program that inherits the lock, and passes its exit status on. */

import { ERRNO } from "../../../ffi/posix/command.ts";
import type { CommandCalls } from "../../../ffi/posix/command.ts";
import { Failure, OS_ERROR, UNAVAILABLE } from "../exit_status.ts";
import type { RunInvocation, System } from "../types.ts";

/** The status of a program that a signal ended, as shells report it. */
export const SIGNAL_STATUS = 128;

/** Where the program is if the environment does not say. */
const DEFAULT_PATH = "/bin:/usr/bin";

/** Shells give the files of redirections numbers up to this one. */
const MAX_SHELL_FD = 255;

/** Passes on what this process inherited, such as another lock of the shell. */
function passOnInherited(calls: CommandCalls): void {
  for (let fd = 0; fd <= MAX_SHELL_FD; fd++) {
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
  { target, close, noFork, verbose }: RunInvocation,
): number {
  const { program, args } = target;
  if (verbose) host.write(1, `portalock: executing ${program}\n`);
  if (host.marksInherited) passOnInherited(calls);
  calls.setInherited(fd, !close);
  if (noFork) throw failedToExecute(program, calls.exec(program, args));
  let pid = calls.spawn(program, args);
  if (pid === -ERRNO.ENOEXEC) pid = spawnScript(program, args);
  if (pid < 0) throw failedToExecute(program, pid);
  const end = calls.wait(pid);
  if (typeof end === "number") {
    throw new Failure(1, `waitpid failed: ${calls.errorText(end)}`);
  }
  return "signal" in end ? SIGNAL_STATUS + end.signal : end.status;

  /** As execvp(3) does with a script that does not name its interpreter. */
  function spawnScript(program: string, args: readonly string[]): number {
    const directories = program.includes("/")
      ? [""]
      : (host.env("PATH") ?? DEFAULT_PATH).split(":").map((path) => `${path}/`);
    let result = -ERRNO.ENOENT;
    for (const directory of directories) {
      result = calls.spawn(directory + program, args);
      if (result !== -ERRNO.ENOEXEC) continue;
      return calls.spawn("/bin/sh", [directory + program, ...args]);
    }
    return result;
  }

  function failedToExecute(program: string, errno: number): Failure {
    return new Failure(
      errno === -ERRNO.ENOMEM ? OS_ERROR : UNAVAILABLE,
      `failed to execute ${program}: ${calls.errorText(errno)}`,
    );
  }
}
