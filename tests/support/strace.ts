/** Commands of strace(1), which run another command. */

/**
 * Only the named calls stop the process, because of seccomp(2). Otherwise each
 * call does, which takes a runtime longer than everything else it does.
 */
const STRACE = ["strace", "-f", "--seccomp-bpf", "-qq"];

/**
 * Returns the command of strace(1) that writes calls to a file.
 *
 * @param calls The names, separated by commas.
 */
export function tracing(log: string, calls: string): string[] {
  return [...STRACE, "-o", log, "-e", `trace=${calls}`];
}

/**
 * Returns the command of strace(1) that injects faults into calls, such as
 * `link,linkat:error=EIO`.
 */
export function injecting(...faults: string[]): string[] {
  const calls = faults.map((fault) => fault.slice(0, fault.indexOf(":")));
  return [
    ...tracing("/dev/null", calls.join(",")),
    ...faults.flatMap((fault) => ["-e", `inject=${fault}`]),
  ];
}
