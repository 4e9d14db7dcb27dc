/** Creates the directory of the tests. */

import { basename, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { absolute } from "../../core/paths.ts";
import { formatName } from "../../options/validate.ts";
import { NO_INPUT } from "../exit_status.ts";
import { CannotTest, explained } from "./cannot_test.ts";
import type { Probe } from "./probe_process.ts";
import type { PathFacts } from "./protocol.ts";

/** How long a new directory may stay invisible through another mount. */
const VISIBLE_MS = 3000;
const VISIBLE_POLL_MS = 20;

/** A path, and the directory of the tests as this path names it. */
export interface View {
  readonly name: string;
  readonly facts: PathFacts;
  readonly directory: string;
}

/**
 * Examines the paths, and creates the directory of the tests by the first one.
 *
 * @throws {CannotTest} If they cannot be tested.
 */
export async function prepare(
  probe: Probe,
  names: readonly string[],
): Promise<View[]> {
  const examined = [];
  for (const name of names) {
    examined.push({ name, facts: await examine(probe, name) });
  }
  const [{ name, facts }, other] = examined as [View, View?];
  const created = await explained(
    name,
    probe.call("prepare", facts.directory),
    facts.directory,
  );
  const views = examined.map((each) => ({
    ...each,
    directory: join(each.facts.directory, created),
  }));
  if (other !== undefined) await findAgain(probe, views[1]!, name);
  return views;
}

async function examine(probe: Probe, name: string): Promise<PathFacts> {
  // A probe has the same current directory.
  const facts = await explained(name, probe.call("facts", absolute(name)));
  const { type, fileSystem, realPath } = facts;
  if (type === "other") {
    const reason = "it is neither a directory nor a file";
    throw new CannotTest(name, NO_INPUT, reason, { code: "EINVAL" });
  }
  if (type === "file" && fileSystem?.mountPoint === realPath) {
    throw new CannotTest(
      name,
      NO_INPUT,
      `it is mounted by itself, so no other file can be created on its file ` +
        `system (${formatName(fileSystem.type)} from ` +
        `${formatName(fileSystem.source)}); pass the directory that it comes ` +
        "from, or mount that directory instead of the file",
      { code: "EBUSY" },
    );
  }
  return facts;
}

/** Finds the directory of the tests by the second path. */
async function findAgain(
  probe: Probe,
  { name, directory }: View,
  first: string,
): Promise<void> {
  for (const end = performance.now() + VISIBLE_MS;;) {
    if (await explained(name, probe.call("exists", directory))) return;
    if (performance.now() >= end) break;
    await delay(VISIBLE_POLL_MS);
  }
  throw new CannotTest(
    name,
    NO_INPUT,
    `it is not the same directory as ${formatName(first)}: ` +
      `${formatName(basename(directory))} was created there and does not ` +
      "appear here; pass two paths of one directory",
    { code: "EINVAL" },
  );
}
