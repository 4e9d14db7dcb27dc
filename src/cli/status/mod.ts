/**
 * `portalock status`: what holds a lock, and what waits for it.
 *
 * @module
 */

import type { Host } from "../../../ffi/runtime/host.ts";
import { Failure, UsageError, usageError } from "../exit_status.ts";
import { getopt } from "../grammar/getopt.ts";
import { parseMaximum, STATUS_OPTIONS } from "../grammar/options.ts";
import type { Reader } from "./reader.ts";

/** How often `--watch` looks, in milliseconds. */
const WATCH_INTERVAL_MS = 1000;

/** Clears a terminal: ECMA-48, CUP and ED. */
const CLEAR = "\x1b[H\x1b[J";

/** Runs the subcommand and returns the exit status. */
export async function run(
  host: Host,
  args: readonly string[],
): Promise<number> {
  const { options, rest } = getopt(args, STATUS_OPTIONS);
  const values = new Map(options);
  if (values.has("help")) {
    const { subcommandHelp } = await import("../grammar/help.ts");
    host.write(1, subcommandHelp("status"));
    return 0;
  }
  if (rest.length === 0) throw usageError("status requires a file");
  const reader: Reader<unknown> = await readerOf(rest, values);
  const look = async (isFirst: boolean) => {
    const states = await reader.read(isFirst);
    return values.has("json")
      ? `${JSON.stringify(states, null, 2)}\n`
      : states.map((state) => reader.format(state)).join("");
  };
  const first = await look(true);
  if (values.has("watch")) await watch(host, first, () => look(false));
  host.write(1, first);
  return 0;
}

async function readerOf(
  names: readonly string[],
  values: ReadonlyMap<string, string>,
): Promise<Reader<unknown>> {
  const [url, text] = [values.get("redis"), values.get("semaphore")];
  const maximum = text === undefined ? undefined : parseMaximum(text).maximum;
  if (values.has("pid-file")) {
    for (const other of ["redis", "semaphore"]) {
      if (!values.has(other)) continue;
      throw new UsageError(
        `the --pid-file and --${other} options are incompatible`,
      );
    }
  }
  if (url !== undefined) {
    const { redisReader } = await import("./redis.ts");
    return redisReader(names, url, maximum);
  }
  const { fileReader } = await import("./files.ts");
  return fileReader(
    names,
    maximum ?? (values.has("pid-file") ? "pid" : "file"),
  );
}

/** Prints a state, and then each other state. Never returns. */
async function watch(
  host: Host,
  first: string,
  look: () => Promise<string>,
): Promise<never> {
  const isTerminal = host.isTerminal(1);
  let last = "";
  for (let text = first;;) {
    if (isTerminal) host.write(1, CLEAR + text);
    else if (text !== last) host.write(text.startsWith(ERROR) ? 2 : 1, text);
    last = text;
    await new Promise((resolve) => setTimeout(resolve, WATCH_INTERVAL_MS));
    try {
      text = await look();
    } catch (error) {
      // A server that restarts, for example. The next look may succeed.
      if (!(error instanceof Failure)) throw error;
      text = `${ERROR}${error.message}\n`;
    }
  }
}

/** How the messages of the command begin. */
const ERROR = "portalock: ";
