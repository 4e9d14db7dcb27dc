/**
 * `portalock doctor`: finds out whether a file system can lock.
 *
 * Child processes, the probes, do everything that touches the paths. So this
 * process answers to signals even if a file system does not answer. A probe is
 * this program, started once more: see {@linkcode PROBE_ARGUMENT}.
 *
 * @module
 */

import process from "node:process";
import { selfCommand } from "../../../ffi/mod.ts";
import { filePath, rejectUnknownOptions } from "../../options/validate.ts";
import { resolveLocker } from "../../options/locker.ts";
import { UNAVAILABLE } from "../exit_status.ts";
import { CannotTest } from "./cannot_test.ts";
import { withInterrupts } from "./interrupt.ts";
import { judge } from "./judge.ts";
import { measure } from "./measurement.ts";
import { PROBE_ARGUMENT } from "./protocol.ts";
import type { DiagnoseOptions, Diagnosis, Effort } from "./types.ts";

export { CannotTest } from "./cannot_test.ts";
export { formatDiagnosis } from "./format.ts";
export { runProbe } from "./probe.ts";
export { PROBE_ARGUMENT } from "./protocol.ts";
export type * from "./types.ts";

const OPTIONS: Record<keyof DiagnoseOptions, true> = {
  locker: true,
  command: true,
  effort: true,
  signal: true,
};

const EFFORT: Effort = {
  processes: 4,
  acquisitions: 50,
  updates: 10,
  handOvers: 5,
  releaseTimeout: 5000,
};

/**
 * Finds out whether the file system of a path can lock, with processes that try
 * to overlap. They lock new files, in a new directory beside or below the path.
 * Nothing that exists is changed or locked, and nothing is left behind, also if
 * the process is killed meanwhile. It takes about three seconds.
 *
 * The program must call {@linkcode runProbe}, and do nothing else, if its first
 * argument is {@linkcode PROBE_ARGUMENT}.
 *
 * @example
 * ```ts ignore
 * import { diagnose, formatDiagnosis } from "./mod.ts";
 *
 * const diagnosis = await diagnose(["/srv/data"]);
 * console.log(formatDiagnosis(diagnosis));
 * process.exitCode = diagnosis.verdict === "broken" ? 1 : 0;
 * ```
 *
 * @param paths A directory or a file, or two views of one directory, such as
 * two mounts of it.
 * @param options What decides, and how to start the processes.
 * @returns What was measured.
 * @throws {TypeError} If an argument or an option is of the wrong type.
 * @throws {RangeError} If there is not one path or two, or an option has an
 * invalid value.
 * @throws {CannotTest} If the tests cannot run: the runtime cannot lock or start
 * processes, a path does not exist, no file can be created, two paths are not
 * the same directory, or the file system does not answer. The message says what
 * to do.
 * @throws The reason of `signal` if it is aborted.
 */
export async function diagnose(
  paths: readonly (string | URL)[],
  options: DiagnoseOptions = {},
): Promise<Diagnosis> {
  rejectUnknownOptions(options, OPTIONS);
  if (!Array.isArray(paths)) throw new TypeError("paths must be an array");
  if (paths.length !== 1 && paths.length !== 2) {
    throw new RangeError(`paths must be one path or two, not ${paths.length}`);
  }
  const names = paths.map((path) => filePath(path));
  const { name: locker } = resolveLocker(options.locker);
  const command = options.command ?? ownCommand(names[0] ?? "");
  if (process.argv.includes(PROBE_ARGUMENT)) {
    throw new Error(
      `the program has started itself with ${PROBE_ARGUMENT} and does not ` +
        "call runProbe()",
    );
  }
  const effort = { ...EFFORT, ...options.effort };
  const start = performance.now();
  const measured = await withInterrupts(
    options.signal,
    (signal) => measure({ names, command, effort, signal }),
  );
  const duration = performance.now() - start;
  return { ...measured, ...judge(measured, locker), locker, duration };
}

/** Returns the command that starts this program as a probe. */
function ownCommand(name: string): string[] {
  try {
    return [...selfCommand(), PROBE_ARGUMENT];
  } catch (cause) {
    const { message } = cause as Error;
    throw new CannotTest(name, UNAVAILABLE, message, { cause });
  }
}
