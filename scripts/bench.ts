/**
 * `npm run bench`: measures what a lock costs, beside C and the alternatives,
 * or beside another checkout of this package.
 */

import { COMPARABLE, compareCheckouts } from "../bench/compare.ts";
import { findContenders } from "../bench/contenders/mod.ts";
import { installPeers } from "../bench/contenders/peers.ts";
import * as commandLine from "../bench/options.ts";
import type { Options } from "../bench/options.ts";
import { writeFigures, writeJson } from "../bench/report/files.ts";
import { describeUnmeasured, report } from "../bench/report/report.ts";
import { describeMachine, heading } from "../bench/runner/machine.ts";
import { NO_SERVER } from "../bench/runner/redis_server.ts";
import { workspace } from "../bench/runner/workspace.ts";
import { probe, SCENARIOS } from "../bench/scenarios/mod.ts";
import type {
  Contender,
  ContenderInfo,
  Outcome,
  Scenario,
  Skipped,
} from "../bench/types.ts";
import { setUp } from "./setup/mod.ts";
import { command } from "./shared/command.ts";

await command("bench", commandLine, async (options) => {
  setUp();
  const folder = workspace();
  return options.before === undefined
    ? await measure(options, folder)
    : await compare(options, options.before, folder);
});

/** Measures the contenders. Returns whether all of them could be measured. */
async function measure(options: Options, folder: string): Promise<boolean> {
  installPeers();
  const isChosen = (list: readonly string[], name: string) =>
    list.length === 0 || list.includes(name);
  const scenarios = Object.entries(SCENARIOS).filter(([name]) =>
    isChosen(options.scenarios, name)
  );
  const { contenders, skipped } = await findContenders(
    (contender) =>
      isChosen(options.contenders, contender.name) &&
      scenarios.some(([name]) => contender.scenarios.includes(name)),
    probe,
    folder,
  );
  const machine = describeMachine(contenders, folder);
  console.log(heading(machine).join("\n"));
  for (const one of skipped) console.log(describeUnmeasured("SKIPPED", one));

  const outcomes: Record<string, Outcome<ContenderInfo>> = {};
  for (const [name, scenario] of scenarios) {
    const takesPart = (one: Contender | Skipped) =>
      one.scenarios.includes(name);
    const participants = contenders.filter(takesPart);
    if (participants.length === 0) continue;
    const outcome = await measureScenario(
      scenario,
      participants,
      skipped.filter(takesPart),
      folder,
      options,
    );
    outcomes[name] = outcome;
    console.log(`\n${report(scenario, outcome)}`);
  }

  if (Object.keys(outcomes).length === 0) {
    console.log("No contender can be measured");
  }
  const all = { machine, scenarios: outcomes };
  if (options.json !== undefined) writeJson(options.json, all);
  if (options.figures !== undefined) writeFigures(options.figures, all);
  return succeeded(Object.values(outcomes), skipped);
}

async function measureScenario(
  scenario: Scenario,
  contenders: readonly Contender[],
  skipped: readonly Skipped[],
  folder: string,
  { rounds = scenario.ROUNDS, seconds, awake }: Options,
): Promise<Outcome<ContenderInfo>> {
  const options = { rounds, seconds, awake };
  const start = performance.now();
  const measured = await scenario.run(contenders, folder, options);
  return {
    ...measured,
    method: measured.results.length > 0
      ? scenario.method(options, measured.results)
      : "no contender could be measured",
    seconds: Math.round((performance.now() - start) / 1000),
    missing: [...measured.failed, ...skipped],
  };
}

/** Returns whether this package was measured, and no contender failed. */
function succeeded(
  outcomes: readonly Outcome<ContenderInfo>[],
  skipped: readonly Skipped[],
): boolean {
  const missed = skipped.some(({ ours, reason }) =>
    ours && reason !== NO_SERVER
  );
  return outcomes.length > 0 && !missed &&
    outcomes.every(({ results, failed }) =>
      results.length > 0 && failed.length === 0
    );
}

/** Compares two checkouts. Returns whether all runtimes could be measured. */
async function compare(
  { scenarios, contenders, rounds, json }: Options,
  before: string,
  folder: string,
): Promise<boolean> {
  const machine = describeMachine([], folder);
  console.log(heading(machine).join("\n"));
  const { measured, succeeded } = await compareCheckouts(
    before,
    scenarios.length > 0 ? scenarios : Object.keys(COMPARABLE),
    (name) => contenders.length === 0 || contenders.includes(name),
    rounds,
    folder,
  );
  if (json !== undefined) writeJson(json, { machine, scenarios: measured });
  return succeeded;
}
