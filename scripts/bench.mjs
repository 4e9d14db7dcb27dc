/** `npm run bench`: what a lock costs, beside C and the alternatives. */

import { writeFileSync } from "node:fs";
import process from "node:process";
import { allContenders, withoutTheBroken } from "../bench/contenders.mjs";
import { heading } from "../bench/machine.mjs";
import { parseOptions, USAGE } from "../bench/options.mjs";
import { installPeers } from "../bench/peers.mjs";
import { report } from "../bench/report.mjs";
import * as uncontended from "../bench/scenarios/uncontended.mjs";
import { workspace } from "../bench/workspace.mjs";
import { setUp } from "./setup.mjs";

process.exitCode = await main(process.argv.slice(2)).catch((error) => {
  console.error(`bench: ${error.message}`);
  return 1;
});

async function main(args) {
  let options;
  try {
    options = parseOptions(args);
  } catch (error) {
    console.error(`bench: ${error.message}`);
    return 2;
  }
  if (options.help) {
    console.log(USAGE.trimEnd());
    return 0;
  }
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
  return failed || results.length === 0 ? 1 : 0;
}
