/** The contenders of the scenario `update`; see `mod.ts`. */

import type { ContenderDefinition } from "../types.ts";
import {
  nodeCommand,
  ourCommand,
  ourCommands,
  pythonCommand,
  RUNTIME_NAMES,
  RUNTIMES,
  single,
} from "./commands.ts";
import type { RuntimeName } from "./commands.ts";
import { npmPeer } from "./peers.ts";

/** Whether the content is on disk when an update resolves. */
const KINDS = ["durable", "not durable"];

/** Of each kind, the contender that the others are compared with. */
export const BASELINE = "portalocker";

export function updateContenders(): ContenderDefinition[] {
  return KINDS.flatMap((kind) => [
    ...RUNTIME_NAMES.map((runtime) => ours(runtime, kind)),
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

/** Returns the full name of a contender of a kind. */
export function nameOf(contender: string, kind: string | undefined): string {
  return `${contender}-${kind?.replace(" ", "-")}`;
}

function ours(runtime: RuntimeName, kind: string): ContenderDefinition {
  const driver = { driver: "updaters/portalock", kind };
  return {
    ...common(runtime, kind),
    label: `updateFile, ${kind}, ${RUNTIMES[runtime]}`,
    ours: true,
    withoutFfi: false,
    find: () => single(ourCommand(runtime, driver)),
    missing: `${runtime} is not installed`,
  };
}

function mixed(kind: string): ContenderDefinition {
  return {
    ...common("mixed", kind),
    label: `updateFile, ${kind}, one process on each of the four`,
    ours: true,
    withoutFfi: false,
    find: () => ourCommands({ driver: "updaters/portalock", kind }),
    missing: "one of the four runtimes is not installed",
  };
}

function python(
  name: string,
  label: string,
  kind: string,
): ContenderDefinition {
  return {
    ...common(name, kind),
    label: `${label}, ${kind}, Python`,
    find: () => single(pythonCommand("portalocker", nameOf(name, kind))),
    missing: "python3 cannot import portalocker",
  };
}

function writeFileAtomic(kind: string): ContenderDefinition {
  const names = ["write-file-atomic", "proper-lockfile"];
  const versions = names.map(npmPeer);
  const label = names.map((name, i) => `${name} ${versions[i] ?? ""}`.trimEnd())
    .join(" + ");
  return {
    ...common("write-file-atomic", kind),
    label: `${label}, ${kind}, Node`,
    find: () =>
      versions.includes(undefined)
        ? undefined
        : [nodeCommand({ driver: "updaters/write_file_atomic", kind })],
    missing: "npm did not install both packages",
  };
}

function common(
  name: string,
  kind: string,
): Pick<ContenderDefinition, "name" | "scenarios" | "kind"> {
  return { name: nameOf(name, kind), scenarios: ["update"], kind };
}
