/**
 * Compares two checkouts of this package in one run: the one given on the
 * command line (before) and the one of this file (after).
 *
 * In each round, each checkout has new processes: one in `uncontended`, which
 * take turns of 20 ms, and two in `handover`, whose hand-overs alternate. The
 * ratio of a round is the median after over the median before. So other load on
 * the machine affects both checkouts alike, unless it changes within
 * milliseconds.
 */

import { existsSync } from "node:fs";
import { join, relative } from "node:path";
import { root } from "../scripts/setup/mod.ts";
import {
  childCommand,
  findRuntime,
  RUNTIME_NAMES,
  RUNTIMES,
} from "./contenders/commands.ts";
import type { RuntimeName } from "./contenders/commands.ts";
import { short } from "./report/format.ts";
import { describeUnmeasured, table } from "./report/report.ts";
import { start } from "./runner/child_process.ts";
import { merge, quantile, quantileOf } from "./runner/histogram.ts";
import type { Histogram } from "./runner/histogram.ts";
import { progress, shuffled } from "./runner/rounds.ts";
import { alternatePairs } from "./runner/ping_pong.ts";
import { freshPath } from "./runner/workspace.ts";
import * as handover from "./scenarios/handover.ts";
import * as uncontended from "./scenarios/uncontended.ts";
import type { Column, Command, ContenderInfo, Unmeasured } from "./types.ts";

const CHECKOUTS = ["before", "after"] as const;

/** In `uncontended`, per round. */
const WARM_UP_MS = 200;
const TURN_MS = 20;
const TURNS = 15;
const TIMEOUT_MS = 60_000;

/** The commands of both checkouts. */
type CommandPair = Readonly<Record<typeof CHECKOUTS[number], Command>>;

/** How a scenario is compared. */
interface ComparableScenario {
  readonly title: string;
  readonly ROUNDS: number;
  /** How both checkouts are measured in a round. */
  readonly method: string;
  /** Resolves to the medians of one round. */
  measureRound(pair: CommandPair, folder: string): Promise<Round>;
}

/** The scenarios that can be compared. */
export const COMPARABLE: Readonly<Record<string, ComparableScenario>> = {
  uncontended: {
    title: uncontended.title,
    ROUNDS: 10,
    method: `both checkouts in turns of ${TURN_MS} ms`,
    measureRound: alternate,
  },
  handover: {
    title: handover.title,
    ROUNDS: 5,
    method: "hand-overs of both checkouts alternate",
    async measureRound({ before, after }, folder) {
      const samples = await alternatePairs(
        [before, after],
        [freshPath(folder), freshPath(folder)],
      );
      return {
        before: quantileOf(samples[0], 0.5),
        after: quantileOf(samples[1], 0.5),
      };
    },
  },
};

/** This package on one runtime, from both checkouts. */
interface Pair extends ContenderInfo {
  readonly before: Command | string;
  readonly after: Command | string;
}

/** Medians of one round, in microseconds. */
interface Round {
  readonly before: number;
  readonly after: number;
}

interface Comparison extends ContenderInfo {
  readonly rounds: readonly Round[];
  /** After over before, of each round, ascending. */
  readonly ratios: readonly number[];
}

/** The median; of an even number of values, the mean of the middle two. */
function medianOf(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const [low = NaN] = sorted.slice(Math.ceil(middle) - 1);
  const [high = NaN] = sorted.slice(Math.floor(middle));
  return (low + high) / 2;
}

const COLUMNS: readonly Column<Comparison>[] = [
  { title: "", cell: ({ label }) => label },
  {
    title: "before µs",
    cell: ({ rounds }) => short(medianOf(rounds.map(({ before }) => before))),
  },
  {
    title: "after µs",
    cell: ({ rounds }) => short(medianOf(rounds.map(({ after }) => after))),
  },
  {
    title: "after/before",
    cell: ({ ratios }) => medianOf(ratios).toFixed(3),
  },
  {
    title: "middle half of rounds",
    cell: ({ ratios }) =>
      range(quantileOf(ratios, 1 / 4), quantileOf(ratios, 3 / 4)),
  },
  {
    title: "all rounds",
    cell: ({ ratios }) => range(ratios[0] ?? NaN, ratios.at(-1) ?? NaN),
  },
];

function range(least: number, most: number): string {
  return `${least.toFixed(2)} to ${most.toFixed(2)}`;
}

/**
 * Compares the checkouts in some scenarios, and prints tables.
 *
 * @param before The folder of the other checkout.
 * @param names The scenarios; by default all that can be compared.
 * @param isWanted Whether to measure the contender of a name.
 * @param rounds How many rounds, if not the default of the scenario.
 * @returns Everything that was measured, by scenario, and whether nothing
 * failed.
 */
export async function compareCheckouts(
  before: string,
  names: readonly string[],
  isWanted: (name: string) => boolean,
  rounds: number | undefined,
  folder: string,
): Promise<{ measured: Record<string, Comparison[]>; succeeded: boolean }> {
  const all = allPairs(before);
  const pairs = all.filter(({ name }) => isWanted(name));
  if (pairs.length === 0) {
    throw new Error(
      `Cannot compare any --contender (expected one of ${
        all.map(({ name }) => name).join(", ")
      })`,
    );
  }
  const measured: Record<string, Comparison[]> = {};
  let succeeded = true;
  console.log(`before: ${before}\nafter: ${root}`);
  for (const name of names) {
    const scenario = COMPARABLE[name];
    if (scenario === undefined) throw new Error(`Cannot compare "${name}"`);
    const count = rounds ?? scenario.ROUNDS;
    const { results, failed } = await comparePairs(
      scenario,
      pairs,
      count,
      folder,
    );
    measured[name] = results;
    succeeded &&= failed.length === 0;
    console.log([
      "",
      scenario.title,
      `rounds: ${count}, in each ${scenario.method}; ` +
      "before, after and after/before are medians of all rounds",
      "",
      ...table(COLUMNS, results),
      ...failed.map((one) => describeUnmeasured("FAILED", one)),
      ...results.length > 0
        ? ["", `after/before, geometric mean: ${geometricMean(results)}`]
        : [],
    ].join("\n"));
  }
  return { measured, succeeded };
}

async function comparePairs(
  scenario: ComparableScenario,
  pairs: readonly Pair[],
  count: number,
  folder: string,
): Promise<{ results: Comparison[]; failed: Unmeasured[] }> {
  const measured = new Map<Pair, Round[]>(pairs.map((pair) => [pair, []]));
  const failed: Unmeasured[] = [];
  for (let round = 1; round <= count; round++) {
    for (const [pair, rounds] of shuffled([...measured])) {
      progress(`Round ${round} of ${count}: ${pair.name}`);
      try {
        rounds.push(await measurePair(scenario, pair, folder));
      } catch (error) {
        measured.delete(pair);
        failed.push({ ...pair, reason: (error as Error).message });
      }
    }
  }
  progress("");
  const results = [...measured].map(([{ name, label }, rounds]) => ({
    name,
    label,
    rounds,
    ratios: rounds.map(({ before, after }) => after / before)
      .sort((a, b) => a - b),
  }));
  return { results, failed };
}

/** @throws {Error} If a checkout cannot be measured on the runtime. */
async function measurePair(
  scenario: ComparableScenario,
  { before, after }: Pair,
  folder: string,
): Promise<Round> {
  if (typeof before === "string") throw new Error(before);
  if (typeof after === "string") throw new Error(after);
  return await scenario.measureRound({ before, after }, folder);
}

/** Measures one process of each checkout, which take turns. */
async function alternate(
  { before, after }: CommandPair,
  folder: string,
): Promise<Round> {
  const startOne = (command: Command) => ({
    child: start(
      command,
      ["alternating", freshPath(folder), WARM_UP_MS],
      TIMEOUT_MS,
    ),
    histograms: [] as Histogram[],
  });
  const processes = { before: startOne(before), after: startOne(after) };
  try {
    for (const { child } of Object.values(processes)) await child.receive();
    for (let turn = 0; turn < TURNS; turn++) {
      for (const which of shuffled(CHECKOUTS)) {
        const { child, histograms } = processes[which];
        child.send(TURN_MS);
        histograms.push(await child.receive() as Histogram);
      }
    }
    for (const { child } of Object.values(processes)) await child.end();
  } finally {
    for (const { child } of Object.values(processes)) child.kill();
  }
  const median = ({ histograms }: { histograms: Histogram[] }) =>
    quantile(merge(histograms), 0.5) / 1000;
  return {
    before: median(processes.before),
    after: median(processes.after),
  };
}

/** Both checkouts on each runtime, synchronous and asynchronous. */
function allPairs(before: string): Pair[] {
  return ["sync", "async"].flatMap((kind) =>
    RUNTIME_NAMES.map((runtime) => ({
      name: `${runtime}-${kind}`,
      label: `Lock, ${kind}, ${RUNTIMES[runtime]}`,
      before: commandIn(before, runtime, kind),
      after: commandIn(root, runtime, kind),
    }))
  );
}

/** Returns the command that loads a checkout, or why it does not exist. */
function commandIn(
  checkout: string,
  name: RuntimeName,
  kind: string,
): Command | string {
  const runtime = findRuntime(name);
  if (runtime === undefined) return `${name} is not installed`;
  const { command, directory, extension } = runtime;
  const module = join(checkout, relative(root, directory), `mod${extension}`);
  return existsSync(module)
    ? childCommand(command, { driver: "lockers/portalock", kind }, module)
    : `Cannot load "${module}": the file does not exist; run "npm run demo" ` +
      "in that checkout, which builds the package";
}

function geometricMean(results: readonly Comparison[]): string {
  const logarithms = results.map(({ ratios }) => Math.log(medianOf(ratios)));
  const mean = logarithms.reduce((a, b) => a + b) / logarithms.length;
  return Math.exp(mean).toFixed(3);
}
