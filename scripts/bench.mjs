/** `npm run bench`: what a lock costs, beside C and the alternatives. */

import { writeFileSync } from "node:fs";
import { allContenders, withoutTheBroken } from "../bench/contenders.mjs";
import { heading } from "../bench/machine.mjs";
import * as commandLine from "../bench/options.mjs";
import { installPeers } from "../bench/peers.mjs";
import { report } from "../bench/report.mjs";
import * as uncontended from "../bench/scenarios/uncontended.mjs";
import { workspace } from "../bench/workspace.mjs";
import { command } from "./command.mjs";
import { setUp } from "./setup.mjs";

await command("bench", commandLine, async (options) => {
  setUp();
  installPeers();
  const folder = workspace();
  const { contenders, skipped } = await withoutTheBroken(
    allContenders(folder).filter(({ name }) =>
      options.contenders.length === 0 || options.contenders.includes(name)
    ),
    uncontended,
    folder,
  );
  const results = await uncontended.run(contenders, folder, options.rounds);
  const facts = heading(results, folder, options.rounds);
  console.log(report(facts, results, skipped));
  if (options.json !== undefined) {
    const json = { facts, scenarios: { uncontended: results }, skipped };
    writeFileSync(options.json, `${JSON.stringify(json)}\n`);
  }
  const failed = skipped.some(({ ours }) => ours);
  return !failed && results.length > 0;
});
