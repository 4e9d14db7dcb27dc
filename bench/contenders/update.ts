/** Who takes part in the scenario `update`; see `contenders.mjs`. */

import {
  nodeCommand,
  ourCommand,
  ourCommands,
  pythonCommand,
  RUNTIMES,
} from "./commands.mjs";
import { npmPeer } from "./peers.mjs";

/** Whether an update is on the disk when it is done. */
const KINDS = ["durable", "not durable"];

/** Of each kind, whom the others of that kind are compared with. */
export const BASELINE = "portalocker";

export function updating() {
  return KINDS.flatMap((kind) => [
    ...Object.keys(RUNTIMES).map((runtime) => ours(runtime, kind)),
    mixed(kind),
    python(BASELINE, "portalocker Lock", kind),
    python(
      "portalocker-truncating",
      "portalocker Lock, truncating first",
      kind,
    ),
    writeFileAtomic(kind),
  ]);
}

/** How a contender of a kind is called on the command line. */
export function nameOf(contender, kind) {
  return `${contender}-${kind.replace(" ", "-")}`;
}

function ours(runtime, kind) {
  return {
    ...updater(runtime, kind),
    label: `updateFile, ${kind}, ${RUNTIMES[runtime]}`,
    ours: true,
    withoutFfi: false,
    find: () => ourCommand(runtime, "updaters/portalock", kind),
    lacks: `${runtime} is not installed`,
  };
}

function mixed(kind) {
  return {
    ...updater("mixed", kind),
    label: `updateFile, ${kind}, one process on each of the four`,
    ours: true,
    withoutFfi: false,
    findAll: () => ourCommands("updaters/portalock", kind),
    lacks: "not all of the four runtimes are installed",
  };
}

function python(name, label, kind) {
  return {
    ...updater(name, kind),
    label: `${label}, ${kind}, Python`,
    find: () => pythonCommand("portalocker", nameOf(name, kind)),
    lacks: "no python3 here can import portalocker",
  };
}

function writeFileAtomic(kind) {
  const names = ["write-file-atomic", "proper-lockfile"];
  const versions = names.map(npmPeer);
  const label = names.map((name, i) => `${name} ${versions[i] ?? ""}`.trimEnd())
    .join(" + ");
  return {
    ...updater("write-file-atomic", kind),
    label: `${label}, ${kind}, Node`,
    find: () =>
      versions.includes(undefined)
        ? undefined
        : nodeCommand("updaters/write_file_atomic", kind),
    lacks: "one of the two did not install",
  };
}

function updater(name, kind) {
  return { name: nameOf(name, kind), scenarios: ["update"], kind };
}
