/**
 * `portalock status`: what holds a lock, and what waits for it.
 *
 * @module
 */

import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { platform } from "../../../ffi/mod.ts";
import type { LockWaiter } from "../../../ffi/types.ts";
import type { Host } from "../../../ffi/runtime/host.ts";
import { formatName } from "../../options/validate.ts";
import { Failure, NO_INPUT, UNAVAILABLE, usageError } from "../exit_status.ts";
import { getopt } from "../grammar/getopt.ts";
import { STATUS_OPTIONS } from "../grammar/options.ts";

/** A process that holds a lock or waits for it. */
export interface LocalParticipant {
  readonly pid: number;
  /** The command line, or the name of the program. */
  readonly command: string | null;
  /** `null` if the system does not report it. */
  readonly exclusive: boolean | null;
  /** When the process started. */
  readonly started: string | null;
}

/** The state of a lock file. */
export interface FileStatus {
  readonly path: string;
  readonly holders: readonly LocalParticipant[];
  readonly waiters: readonly LocalParticipant[];
}

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
    const { statusHelp } = await import("../grammar/help.ts");
    host.write(1, statusHelp());
    return 0;
  }
  if (rest.length === 0) throw usageError("status requires a file");
  const url = values.get("redis");
  const redis = url === undefined ? undefined : await import("./redis.ts");
  const read = () => redis ? redis.readAll(rest, url!) : rest.flatMap(readPath);
  const format = (found: Awaited<ReturnType<typeof read>>) =>
    values.has("json")
      ? `${JSON.stringify(found, null, 2)}\n`
      : found.map((each) =>
        "path" in each ? formatFile(each) : redis!.format(each)
      ).join("");
  if (!values.has("watch")) {
    host.write(1, format(await read()));
    return 0;
  }
  for (let last = "";;) {
    const text = format(await read());
    if (host.isTerminal(1)) host.write(1, CLEAR + text);
    else if (text !== last) host.write(1, text);
    last = text;
    await new Promise((resolve) => setTimeout(resolve, WATCH_INTERVAL_MS));
  }
}

/** Reads the state of a file, or of a directory and the locked files in it. */
function readPath(path: string): FileStatus[] {
  let isDirectory: boolean;
  try {
    isDirectory = statSync(path).isDirectory();
  } catch (error) {
    throw new Failure(NO_INPUT, (error as Error).message);
  }
  const own = readFile(path);
  if (!isDirectory) return [own];
  const files = readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => readFile(join(path, name)));
  return [own, ...files].filter(({ holders, waiters }) =>
    holders.length + waiters.length > 0
  );
}

function readFile(path: string): FileStatus {
  const system = platform();
  const holders = system.holders(path, true);
  if (holders === null) {
    throw new Failure(
      UNAVAILABLE,
      "this system does not report the holders of locks",
    );
  }
  return {
    path,
    holders: holders.map(participant),
    waiters: (system.waiters?.(path) ?? []).map(participant),
  };
}

function participant(
  { pid, command, exclusive }: LockWaiter,
): LocalParticipant {
  const words = readProc(`${pid}/cmdline`).replaceAll("\0", " ").trim();
  const started = processStart(pid);
  return {
    pid,
    command: words === "" ? command ?? null : words,
    exclusive,
    started: started === null ? null : new Date(started).toISOString(),
  };
}

/** proc(5): the unit of times in `/proc/PID/stat`, on all architectures. */
const TICKS_PER_SECOND = 100;

/** proc(5): the time of the start follows the name by 20 fields. */
const START_FIELD = 20;

/** Returns when a process started, in milliseconds since 1970. */
function processStart(pid: number): number | null {
  const stat = readProc(`${pid}/stat`);
  const [, boot] = /^btime (\d+)$/m.exec(readProc("stat")) ?? [];
  const fields = stat.slice(stat.lastIndexOf(")") + 1).split(" ");
  const ticks = Number(fields[START_FIELD]);
  if (boot === undefined || !(ticks > 0)) return null;
  return (Number(boot) + ticks / TICKS_PER_SECOND) * 1000;
}

function readProc(name: string): string {
  try {
    return readFileSync(`/proc/${name}`, "utf8");
  } catch {
    return "";
  }
}

function formatFile({ path, holders, waiters }: FileStatus): string {
  const state = holders.length > 0 ? "locked" : "not locked";
  return `${formatName(path)}: ${state}\n` +
    holders.map((holder) => formatLine("holds", holder)).join("") +
    waiters.map((waiter) => formatLine("waits", waiter)).join("");
}

function formatLine(
  verb: string,
  { pid, command, exclusive, started }: LocalParticipant,
): string {
  const type = exclusive === null ? "" : exclusive ? "exclusive" : "shared";
  const since = started === null ? "" : `, started ${localTime(started)}`;
  const name = command === null ? "" : `  ${formatName(command)}`;
  return `  ${verb}  ${type.padEnd(9)}  ${String(pid).padStart(7)}` +
    `${name}${since}\n`;
}

/** Formats a time as `2026-11-29 14:02:11`, in the time zone of the user. */
function localTime(iso: string): string {
  const date = new Date(iso);
  const local = date.getTime() - date.getTimezoneOffset() * 60_000;
  return new Date(local).toISOString().slice(0, 19).replace("T", " ");
}
