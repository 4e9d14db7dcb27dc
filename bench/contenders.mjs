/**
 * Who is measured. A contender's process is its command with the scenario's
 * name and arguments appended, and prints one line of JSON.
 */

import { join } from "node:path";
import { root, runtimes, systemNode } from "../scripts/setup.mjs";
import { compileC, findPython, npmPeer } from "./peers.mjs";

const RUNTIMES = ["deno", "bun", "node", "node26"];

/** What Deno needs to lock without calling C, and nothing else. */
const WITHOUT_FFI = ["--no-prompt", "--allow-read", "--allow-write"];

const NPM_PEERS = [
  { name: "fs-ext", locker: "fs_ext", kinds: ["sync"] },
  { name: "os-lock", locker: "os_lock", kinds: ["async"] },
  { name: "lockfile", locker: "lockfile", kinds: ["sync"] },
  {
    name: "proper-lockfile",
    locker: "proper_lockfile",
    kinds: ["sync", "async"],
  },
];

const OURS = [
  ...["sync", "async"].flatMap((kind) =>
    RUNTIMES.map((runtime) => ({ runtime, kind }))
  ),
  ...["sync", "async"].map((kind) => ({
    runtime: "deno",
    kind,
    withoutFfi: true,
  })),
];

const DENO_FILES = ["sync", "async"].map((kind) => `deno-fsfile-${kind}`);

/** The names of all contenders, in the order of the table. */
export const NAMES = [
  "c",
  ...OURS.map(nameOfOurs),
  "portalocker",
  ...DENO_FILES,
  ...NPM_PEERS.flatMap(({ name, kinds }) =>
    kinds.map((kind) => `${name}-${kind}`)
  ),
];

/**
 * All contenders in the order of {@linkcode NAMES}. Those that this machine
 * lacks have no command but say why in `skip`.
 */
export function allContenders(folder) {
  const found = new Map(runtimes().map((runtime) => [runtime.name, runtime]));
  return [
    c(folder),
    ...OURS.map((one) => ours(one, found.get(one.runtime))),
    portalocker(),
    ...["sync", "async"].map((kind) => denoFile(kind, found.get("deno"))),
    ...NPM_PEERS.flatMap((peer) => peer.kinds.map((kind) => npm(peer, kind))),
  ];
}

/** Splits the contenders into those that work and those that do not. */
export async function withoutTheBroken(all, { probe }, folder) {
  const contenders = [];
  const skipped = [];
  for (const contender of all) {
    const { name, label, ours } = contender;
    try {
      if (contender.skip) throw new Error(contender.skip);
      await probe(contender, folder);
      contenders.push(contender);
    } catch (error) {
      skipped.push({ name, label, ours, reason: error.message });
    }
  }
  return { contenders, skipped };
}

function c(folder) {
  const program = compileC(folder);
  return {
    name: "c",
    label: "C, open + flock + flock + close",
    ...program ? { command: [program] } : {
      skip: "there is no cc to compile it, so no ratio can be given",
    },
  };
}

function nameOfOurs({ runtime, kind, withoutFfi }) {
  return `${runtime}${withoutFfi ? "-without-ffi" : ""}-${kind}`;
}

function ours({ runtime, kind, withoutFfi }, found) {
  const title = {
    deno: "Deno",
    bun: "Bun",
    node: "Node with koffi",
    node26: "Node 26",
  }[runtime] + (withoutFfi ? " without FFI" : "");
  const common = {
    name: nameOfOurs({ runtime, kind, withoutFfi }),
    label: `Lock, ${kind}, ${title}`,
    ours: true,
    aim: withoutFfi ? `${kind} without FFI` : kind,
  };
  if (!found) return { ...common, skip: `${runtime} is not installed` };
  const command = withoutFfi
    ? found.command.flatMap((word) => word === "-A" ? WITHOUT_FFI : [word])
    : found.command;
  const module = join(found.directory, `mod${found.extension}`);
  return { ...common, command: script(command, "portalock", kind, module) };
}

function portalocker() {
  const python = findPython();
  return {
    name: "portalocker",
    label: "portalocker Lock, Python",
    ...python
      ? { command: [python, child("portalocker_lock.py")] }
      : { skip: "no python3 here can import portalocker" },
  };
}

function denoFile(kind, deno) {
  return {
    name: `deno-fsfile-${kind}`,
    label: `Deno.FsFile, ${kind}`,
    ...deno
      ? { command: script(deno.command, "deno_file", kind) }
      : { skip: "deno is not installed" },
  };
}

function npm({ name, locker }, kind) {
  const version = npmPeer(name);
  return {
    name: `${name}-${kind}`,
    label: `${name} ${version ?? ""}`.trimEnd() + `, ${kind}, Node`,
    ...version
      ? { command: script([systemNode()], locker, kind) }
      : { skip: "it did not install" },
  };
}

function script(command, locker, kind, library = "") {
  return [...command, child("child.mjs"), locker, library, kind];
}

function child(name) {
  return join(root, "bench", "children", name);
}
