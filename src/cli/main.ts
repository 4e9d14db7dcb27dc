#!/usr/bin/env node
/**
 * The `portalock` command. Importing this module runs the command.
 *
 * ```sh
 * portalock nightly.lock ./nightly.sh
 * ```
 *
 * @module
 */

import { commandCalls } from "../../ffi/posix/command.ts";
import type { CommandCalls } from "../../ffi/posix/command.ts";
import { posixConstants } from "../../ffi/posix/constants.ts";
import { thisHost } from "../../ffi/runtime/host.ts";
import type { Host } from "../../ffi/runtime/host.ts";
import { loadCalls } from "../../ffi/runtime/light.ts";
import { Failure, OS_ERROR, SOFTWARE } from "./exit_status.ts";
import { PROBE_ARGUMENT } from "./doctor/protocol.ts";
import { lockAndRun } from "./run/file_lock.ts";
import { parseInvocation } from "./grammar/options.ts";
import type { SubcommandName } from "./grammar/subcommands.ts";

/** What runs the lines of `-c` if the environment does not say. */
const SHELL = "/bin/sh";

/** The modules of the subcommands, and that of the processes of the doctor. */
const SUBCOMMANDS: Readonly<
  Record<SubcommandName | typeof PROBE_ARGUMENT, () => Promise<Subcommand>>
> = {
  completion: () => import("./grammar/completion.ts"),
  doctor: () => import("./doctor/command.ts"),
  [PROBE_ARGUMENT]: () => import("./doctor/probe_command.ts"),
  status: () => import("./status/mod.ts"),
};

interface Subcommand {
  run(host: Host, args: readonly string[]): Promise<number>;
}

function isSubcommand(name: string): name is keyof typeof SUBCOMMANDS {
  return Object.hasOwn(SUBCOMMANDS, name);
}

/**
 * Runs the command and returns its exit status.
 *
 * @param onCalls Gets the calls of the C library as soon as there are some.
 */
async function run(
  host: Host,
  onCalls: (calls: CommandCalls) => void,
): Promise<number> {
  const replaced = host.args.find((each) => each.includes("\ufffd"));
  if (replaced !== undefined) {
    const { checkEncoding } = await import("./grammar/encoding.ts");
    checkEncoding(replaced);
  }
  const [name = "", ...args] = host.args;
  if (isSubcommand(name)) {
    return await (await SUBCOMMANDS[name]()).run(host, args);
  }
  const invocation = parseInvocation(host.args, host.env("SHELL") || SHELL);
  if (typeof invocation === "string") {
    const { informationText } = await import("./grammar/help.ts");
    host.write(1, informationText(invocation));
    return 0;
  }
  const constants = posixConstants(host.platform, host.arch);
  const runtime = constants && await loadCalls();
  const calls = runtime && commandCalls(runtime, constants, host);
  if (calls) onCalls(calls);
  const { lockClass, redis } = invocation;
  if (calls && lockClass === "file" && !redis) {
    return await lockAndRun({ host, calls }, invocation);
  }
  const { runUnderLibraryLock } = await import("./run/library_lock.ts");
  const library = runtime && calls && { calls, runtime, constants };
  return await runUnderLibraryLock(host, library ?? null, invocation);
}

async function statusOf(error: unknown): Promise<number> {
  if (error instanceof Failure) return error.status;
  const { errorCode } = await import("../../ffi/types.ts");
  return errorCode(error) === undefined ? SOFTWARE : OS_ERROR;
}

function report(host: Host, { message }: Error): void {
  try {
    host.write(2, `portalock: ${message}\n`);
  } catch {
    // The status says it.
  }
}

async function main(): Promise<void> {
  const host = thisHost();
  let { exit } = host;
  let status: number;
  try {
    status = await run(host, (calls) => {
      calls.resetSignals();
      exit = (status) => calls.exit(status);
    });
  } catch (error) {
    status = await statusOf(error);
    report(host, error as Error);
  }
  exit(status);
}

main();
