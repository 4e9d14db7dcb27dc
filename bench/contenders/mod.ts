/**
 * The contenders. The process of a contender is its command, followed by the
 * scenario's name and arguments (`runner/child_process.ts`).
 */

import { contenderInfo } from "../runner/rounds.ts";
import type {
  Command,
  Contender,
  ContenderDefinition,
  Skipped,
} from "../types.ts";
import {
  denoCommand,
  nodeCommand,
  ourCommand,
  ourCommands,
  ourModuleCommand,
  pythonCommand,
  RUNTIME_NAMES,
  RUNTIMES,
  single,
} from "./commands.ts";
import type { RuntimeName } from "./commands.ts";
import { compileC, npmPeer } from "./peers.ts";
import { redisContenders } from "./redis.ts";
import { updateContenders } from "./update.ts";

/** The scenarios for every contender that can wait for a lock. */
const WAITING = ["uncontended", "handover", "contention"];

type Kind = "sync" | "async";

const KINDS: readonly Kind[] = ["sync", "async"];

/** All contenders, in the order of the tables. */
function all(): ContenderDefinition[] {
  return [
    {
      name: "c",
      label: "C, bare system calls",
      scenarios: WAITING,
      find(folder) {
        const program = compileC(folder);
        return program === undefined ? undefined : [[program]];
      },
      missing: "cc is not installed, so ratios to C are missing",
    },
    ...KINDS.flatMap((kind) =>
      RUNTIME_NAMES.map((runtime) => ours(runtime, kind))
    ),
    ...KINDS.map((kind) => ours("deno", kind, true)),
    ...RUNTIME_NAMES.map((runtime) => infinite(runtime)),
    infinite("deno", true),
    ...KINDS.map(mixed),
    python("portalocker", "portalocker Lock, Python", 250),
    python("filelock", "filelock FileLock, Python", 50),
    ...RUNTIME_NAMES.map(bare),
    ...KINDS.map(denoFile),
    npm("fs-ext", "sync", WAITING),
    npm("fs-ext", "async", [...WAITING, "idle"]),
    npm("os-lock", "async", ["uncontended"]),
    npm("lockfile", "sync", ["uncontended"]),
    npm("proper-lockfile", "sync", ["uncontended"]),
    // Its first pause; the next ones are 2 s, 4 s and so on.
    { ...npm("proper-lockfile", "async", WAITING), pollInterval: 1000 },
    ...updateContenders(),
    ...redisContenders(),
  ];
}

/** The names of all contenders, for the command line. */
export const NAMES = all().map(({ name }) => name);

/**
 * Finds contenders and tries them.
 *
 * @param wanted Whether to look for a contender.
 * @param probe Resolves to the runtime of a contender's command, or rejects if
 * the contender does not work.
 */
export async function findContenders(
  wanted: (contender: ContenderDefinition) => boolean,
  probe: Probe,
  folder: string,
): Promise<{ contenders: Contender[]; skipped: Skipped[] }> {
  const contenders: Contender[] = [];
  const skipped: Skipped[] = [];
  for (const contender of all().filter(wanted)) {
    try {
      contenders.push(await tryContender(contender, probe, folder));
    } catch (error) {
      skipped.push({
        ...contenderInfo(contender),
        scenarios: contender.scenarios,
        reason: (error as Error).message,
      });
    }
  }
  return { contenders, skipped };
}

type Probe = (
  contender: ContenderDefinition,
  command: Command,
  folder: string,
) => Promise<string>;

/** Finds a contender and tries each of its commands. */
async function tryContender(
  contender: ContenderDefinition,
  probe: Probe,
  folder: string,
): Promise<Contender> {
  const commands = contender.find(folder);
  if (commands === undefined) throw new Error(contender.missing);
  const runtimes: string[] = [];
  for (const command of commands) {
    runtimes.push(await probe(contender, command, folder));
  }
  return { ...contender, command: commands[0], commands, runtimes };
}

/** This package. */
function ours(
  runtime: RuntimeName,
  kind: Kind,
  withoutFfi = false,
): ContenderDefinition {
  const driver = { driver: "lockers/portalock", kind };
  return {
    name: `${runtime}${withoutFfi ? "-without-ffi" : ""}-${kind}`,
    label: `Lock, ${kind}, ${RUNTIMES[runtime]}` +
      (withoutFfi ? " without FFI" : ""),
    scenarios: kind === "sync" ? WAITING : [...WAITING, "crowd", "idle"],
    ours: true,
    kind,
    withoutFfi,
    pollInterval: withoutFfi ? 300 : undefined,
    find: () => single(ourCommand(runtime, driver, withoutFfi)),
    missing: `${runtime} is not installed`,
  };
}

/** This package with an infinite timeout, which blocks in the kernel. */
function infinite(
  runtime: RuntimeName,
  withoutFfi = false,
): ContenderDefinition {
  const driver = { driver: "lockers/portalock_infinite", kind: "sync" };
  const { name, label, ...one } = ours(runtime, "sync", withoutFfi);
  return {
    ...one,
    name: name.replace("sync", "infinite"),
    label: label.replace("sync", "sync, infinite timeout"),
    scenarios: ["handover"],
    kind: "infinite",
    pollInterval: undefined,
    find: () => single(ourCommand(runtime, driver, withoutFfi)),
  };
}

/** What JavaScript and its FFI cost without this package's waiting. */
function bare(runtime: RuntimeName): ContenderDefinition {
  const driver = { driver: "lockers/bare", kind: "sync" };
  return {
    name: `bare-${runtime}`,
    label: `flock(2) by FFI, sync, ${RUNTIMES[runtime]}`,
    scenarios: ["uncontended", "handover"],
    find: () => single(ourModuleCommand(runtime, ["ffi"], driver)),
    missing: `${runtime} is not installed`,
  };
}

/** This package with one process on each runtime. */
function mixed(kind: Kind): ContenderDefinition {
  return {
    name: `mixed-${kind}`,
    label: `Lock, ${kind}, one process on each of the four`,
    scenarios: ["contention"],
    ours: true,
    kind,
    withoutFfi: false,
    find: () => ourCommands({ driver: "lockers/portalock", kind }),
    missing: "one of the four runtimes is not installed",
  };
}

function python(
  module: string,
  label: string,
  pollInterval: number,
): ContenderDefinition {
  return {
    name: module,
    label,
    scenarios: WAITING,
    pollInterval,
    find: () => single(pythonCommand(module, module)),
    missing: `python3 cannot import ${module}`,
  };
}

function denoFile(kind: Kind): ContenderDefinition {
  return {
    name: `deno-fsfile-${kind}`,
    label: `Deno.FsFile, ${kind}`,
    scenarios: kind === "sync" ? WAITING : [...WAITING, "idle"],
    find: () => single(denoCommand({ driver: "lockers/deno_file", kind })),
    missing: "deno is not installed",
  };
}

function npm(
  name: string,
  kind: Kind,
  scenarios: readonly string[],
): ContenderDefinition {
  const version = npmPeer(name);
  const driver = { driver: `lockers/${name.replace("-", "_")}`, kind };
  return {
    name: `${name}-${kind}`,
    label: `${name} ${version ?? ""}`.trimEnd() + `, ${kind}, Node`,
    scenarios,
    find: () => version === undefined ? undefined : [nodeCommand(driver)],
    missing: "npm did not install it",
  };
}
