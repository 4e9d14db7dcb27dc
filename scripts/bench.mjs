/** `npm run bench`: what a lock costs, beside C and the alternatives. */

import { findContenders } from "../bench/contenders.mjs";
import { writeFigures, writeJson } from "../bench/files.mjs";
import { heading, machine } from "../bench/machine.mjs";
import * as commandLine from "../bench/options.mjs";
import { installPeers } from "../bench/peers.mjs";
import { NO_SERVER } from "../bench/redis_server.mjs";
import { complaint, report } from "../bench/report.mjs";
import { probe, SCENARIOS } from "../bench/scenarios/mod.mjs";
import { workspace } from "../bench/workspace.mjs";
import { command } from "./command.mjs";
import { setUp } from "./setup.mjs";

await command("bench", commandLine, async (options) => {
  setUp();
  installPeers();
  const folder = workspace();
  const chosen = chooser(options);
  const { contenders, skipped } = await findContenders(
    chosen.contender,
    probe,
    folder,
  );
  const facts = machine(contenders, folder);
  console.log(heading(facts).join("\n"));
  for (const one of skipped) console.log(complaint("SKIPPED")(one));

  const outcomes = {};
  for (const name of chosen.scenarios) {
    const takePart = ({ scenarios }) => scenarios.includes(name);
    const players = contenders.filter(takePart);
    if (players.length === 0) continue;
    const outcome = await play(name, players, folder, options);
    outcome.missing = [...outcome.failed, ...skipped.filter(takePart)];
    outcomes[name] = outcome;
    console.log(`\n${report(SCENARIOS[name], outcome)}`);
  }

  if (Object.keys(outcomes).length === 0) console.log("Nobody takes part");
  const all = { machine: facts, scenarios: outcomes };
  if (options.json !== undefined) writeJson(options.json, all);
  if (options.figures !== undefined) writeFigures(options.figures, all);
  return succeeded(Object.values(outcomes), skipped);
});

/** What the command line narrows the run to. */
function chooser({ scenarios, contenders }) {
  const among = (list, name) => list.length === 0 || list.includes(name);
  const names = Object.keys(SCENARIOS).filter((name) => among(scenarios, name));
  return {
    scenarios: names,
    contender: ({ name, scenarios }) =>
      among(contenders, name) && scenarios.some((one) => names.includes(one)),
  };
}

async function play(name, contenders, folder, wishes) {
  const scenario = SCENARIOS[name];
  const options = { ...wishes, rounds: wishes.rounds ?? scenario.ROUNDS };
  const start = performance.now();
  const outcome = await scenario.run(contenders, folder, options);
  return {
    ...outcome,
    method: outcome.results.length > 0
      ? scenario.method(options, outcome.results)
      : "nobody could be measured",
    seconds: Math.round((performance.now() - start) / 1000),
  };
}

/** Whether everybody who can be measured was, this package above all. */
function succeeded(outcomes, skipped) {
  const missed = skipped.some(({ ours, reason }) =>
    ours && reason !== NO_SERVER
  );
  return outcomes.length > 0 && !missed &&
    outcomes.every(({ results, failed }) =>
      results.length > 0 && failed.length === 0
    );
}
