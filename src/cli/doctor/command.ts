/**
 * `portalock doctor`: whether a file system can lock.
 *
 * @module
 */

import type { Host } from "../../../ffi/runtime/host.ts";
import { UsageError, usageError } from "../exit_status.ts";
import { getopt } from "../grammar/getopt.ts";
import { DOCTOR_OPTIONS } from "../grammar/options.ts";

/** The path cannot be used for locks. */
const BROKEN = 1;

/** Runs the subcommand and returns the exit status. */
export async function run(
  host: Host,
  args: readonly string[],
): Promise<number> {
  const { options, rest } = getopt(args, DOCTOR_OPTIONS);
  const values = new Map(options);
  if (values.has("help")) {
    const { subcommandHelp } = await import("../grammar/help.ts");
    host.write(1, subcommandHelp("doctor"));
    return 0;
  }
  if (rest.length < 1 || rest.length > 2) {
    throw usageError("doctor requires one path or two");
  }
  const { diagnose, formatDiagnosis } = await import("./mod.ts");
  const locker = values.has("fcntl") ? "ofd" : "flock";
  try {
    const diagnosis = await diagnose(rest, { locker });
    host.write(
      1,
      values.has("json")
        ? `${JSON.stringify(diagnosis, null, 2)}\n`
        : formatDiagnosis(diagnosis),
    );
    return diagnosis.verdict === "broken" ? BROKEN : 0;
  } catch (error) {
    if (!(error instanceof TypeError || error instanceof RangeError)) {
      throw error;
    }
    throw new UsageError(error.message);
  }
}
