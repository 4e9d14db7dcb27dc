/**
 * Who is measured. A contender's process is its `command` with the scenario's
 * name and arguments appended (`run.mjs`).
 */

import {
  bareCommand,
  denoCommand,
  nodeCommand,
  ourCommand,
  ourCommands,
  prefixed,
  pythonCommand,
  RUNTIMES,
} from "./commands.mjs";
import { compileC, npmPeer } from "./peers.mjs";
import { inRedis } from "./redis.mjs";
import { who } from "./rounds.mjs";
import { updating } from "./updating.mjs";

/** The scenarios for whoever can wait for a lock. */
const WAITING = ["uncontended", "handover", "contention"];

/**
 * All contenders, in the order of the tables.
 *
 * - `name`, `label`: for the command line, for people.
 * - `scenarios`: those it takes part in.
 * - `ours`, `kind`, `withoutFfi`: what its aims are, if it is this package;
 *   in `update` the `kind` also says with whom it compares.
 * - `period`: of those who poll, the pause between two attempts, in
 *   milliseconds; over it the hand-over has to spread.
 * - `find`: given a temporary folder, the command, `undefined` if `lacks`; or
 *   as `findAll` those of the four processes that contend.
 */
function all() {
  return [
    {
      name: "c",
      label: "C, bare system calls",
      scenarios: WAITING,
      find: (folder) => prefixed(compileC(folder)),
      lacks: "there is no cc to compile it, so no ratio can be given",
    },
    ...["sync", "async"].flatMap((kind) =>
      Object.keys(RUNTIMES).map((runtime) => ours(runtime, kind))
    ),
    ...["sync", "async"].map((kind) => ours("deno", kind, true)),
    ...Object.keys(RUNTIMES).map((runtime) => endless(runtime)),
    endless("deno", true),
    ...["sync", "async"].map(mixed),
    python("portalocker", "portalocker Lock, Python", 250),
    python("filelock", "filelock FileLock, Python", 50),
    ...Object.keys(RUNTIMES).map(bare),
    ...["sync", "async"].map(denoFile),
    npm("fs-ext", "sync", WAITING),
    npm("fs-ext", "async", [...WAITING, "idle"]),
    npm("os-lock", "async", ["uncontended"]),
    npm("lockfile", "sync", ["uncontended"]),
    npm("proper-lockfile", "sync", ["uncontended"]),
    // Its first pause; the next ones are 2 s, 4 s and so on.
    { ...npm("proper-lockfile", "async", WAITING), period: 1000 },
    ...updating(),
    ...inRedis(),
  ];
}

export const NAMES = all().map(({ name }) => name);

/**
 * Looks for contenders and tries them.
 *
 * @param wanted Says whether one is wanted at all.
 * @param probe Given a contender, a command of it and the folder, resolves to
 * the runtime; rejects if it is broken.
 */
export async function findContenders(wanted, probe, folder) {
  const contenders = [];
  const skipped = [];
  for (const contender of all().filter(wanted)) {
    try {
      contenders.push(await found(contender, probe, folder));
    } catch ({ message }) {
      const { scenarios } = contender;
      skipped.push({ ...who(contender), scenarios, reason: message });
    }
  }
  return { contenders, skipped };
}

async function found(contender, probe, folder) {
  const { find, findAll, lacks } = contender;
  const commands = findAll ? findAll(folder) : [find(folder)];
  if (commands.includes(undefined)) throw new Error(lacks);
  const runtimes = [];
  for (const command of commands) {
    runtimes.push(await probe(contender, command, folder));
  }
  return { ...contender, command: commands[0], commands, runtimes };
}

function ours(runtime, kind, withoutFfi = false) {
  return {
    name: `${runtime}${withoutFfi ? "-without-ffi" : ""}-${kind}`,
    label: `Lock, ${kind}, ${RUNTIMES[runtime]}` +
      (withoutFfi ? " without FFI" : ""),
    scenarios: kind === "sync" ? WAITING : [...WAITING, "crowd", "idle"],
    ours: true,
    kind,
    withoutFfi,
    period: withoutFfi ? 300 : undefined,
    find: () => ourCommand(runtime, "lockers/portalock", kind, withoutFfi),
    lacks: `${runtime} is not installed`,
  };
}

/** This package where the wait is left to the kernel. */
function endless(runtime, withoutFfi = false) {
  const driver = "lockers/portalock_endless";
  const { name, label, ...one } = ours(runtime, "sync", withoutFfi);
  return {
    ...one,
    name: name.replace("sync", "endless"),
    label: label.replace("sync", "sync, no end"),
    scenarios: ["handover"],
    kind: "endless",
    period: undefined,
    find: () => ourCommand(runtime, driver, "sync", withoutFfi),
  };
}

/** What JavaScript and its FFI cost without this package's waiting. */
function bare(runtime) {
  return {
    name: `bare-${runtime}`,
    label: `flock(2) by FFI, sync, ${RUNTIMES[runtime]}`,
    scenarios: ["uncontended", "handover"],
    find: () => bareCommand(runtime, "lockers/bare"),
    lacks: `${runtime} is not installed`,
  };
}

function mixed(kind) {
  return {
    name: `mixed-${kind}`,
    label: `Lock, ${kind}, one process on each of the four`,
    scenarios: ["contention"],
    ours: true,
    kind,
    withoutFfi: false,
    findAll: () => ourCommands("lockers/portalock", kind),
    lacks: "not all of the four runtimes are installed",
  };
}

function python(module, label, period) {
  return {
    name: module,
    label,
    scenarios: WAITING,
    period,
    find: () => pythonCommand(module, module),
    lacks: `no python3 here can import ${module}`,
  };
}

function denoFile(kind) {
  return {
    name: `deno-fsfile-${kind}`,
    label: `Deno.FsFile, ${kind}`,
    scenarios: kind === "sync" ? WAITING : [...WAITING, "idle"],
    find: () => denoCommand("lockers/deno_file", kind),
    lacks: "deno is not installed",
  };
}

function npm(name, kind, scenarios) {
  const version = npmPeer(name);
  const driver = `lockers/${name.replace("-", "_")}`;
  return {
    name: `${name}-${kind}`,
    label: `${name} ${version ?? ""}`.trimEnd() + `, ${kind}, Node`,
    scenarios,
    find: () => version && nodeCommand(driver, kind),
    lacks: "it did not install",
  };
}
