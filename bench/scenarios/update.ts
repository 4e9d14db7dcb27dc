/**
 * Scenario: four processes change one JSON file. Each reads it, adds one to its
 * number and writes it back, under mutual exclusion and without a pause. At the
 * end the number has to be what the four say that they counted. Meanwhile this
 * process reads the file without any lock, as whoever knows nothing of locks
 * would, and counts how often it is broken.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { short, whole } from "../format.mjs";
import { COLUMNS as OF_FOUR, four, LOST, mustAddUp, pooled } from "../four.mjs";
import { beside, inRounds } from "../rounds.mjs";
import { start } from "../run.mjs";
import { BASELINE, nameOf } from "../updating.mjs";
import { freshPath } from "../workspace.mjs";

export const title = "Four processes change one JSON file";
export const ROUNDS = 1;

/** Milliseconds. */
const TIMEOUT = 30_000;

/** Milliseconds: a reader without a pause would keep a processor from them. */
const PAUSE = 1;

export const COLUMNS = [
  { title: "", cell: ({ label }) => label },
  { title: "updates/s", cell: ({ rate }) => whole(rate) },
  { title: "of Python's", cell: ({ besidePython }) => short(besidePython) },
  ...OF_FOUR,
  { title: "broken reads", cell: ({ broken }) => whole(broken) },
  { title: "of", cell: ({ reads }) => whole(reads) },
];

/** Which runtime runs a command; rejects if it cannot update at all. */
export async function probe(command, folder) {
  const child = start(command, ["update", newFile(folder), 0], TIMEOUT);
  try {
    child.say(0);
    const { runtime } = await child.end();
    return runtime;
  } finally {
    child.kill();
  }
}

export async function run(contenders, folder, { rounds, seconds }) {
  const { results, failed } = await inRounds(
    contenders,
    rounds,
    ({ commands }) => once(commands, newFile(folder), seconds),
    (runs) => ({
      ...pooled(runs.map(({ told }) => told), seconds),
      reads: total(runs, ({ reads }) => reads),
      broken: total(runs, ({ broken }) => broken),
    }),
  );
  const baseline = ({ kind }) => nameOf(BASELINE, kind);
  const ratio = (one, python) => one.rate / python.rate;
  return { results: beside(results, "besidePython", baseline, ratio), failed };
}

export function method({ rounds, seconds }) {
  return `rounds: ${rounds}, in each every contender four processes for ` +
    `${seconds} s; p50 and p99 are times of an update, waiting included; ` +
    "of Python's: beside portalocker Lock of the same kind; broken reads: " +
    "unparsable or empty, without a lock";
}

/** Who is measured has lost nothing, or it would have failed. */
export function aims() {
  return ["durable", "not durable"].flatMap((kind) =>
    [
      { kind, text: "no update lost", figure: () => 0, refutedBy: LOST },
      {
        kind,
        text: "readers never see half a file",
        figure: ({ broken }) => broken,
      },
    ].map((aim) => ({ ...aim, onlyWithFfi: true, most: 0, shown: whole }))
  );
}

async function once(commands, path, seconds) {
  const { told, seen } = await four(
    commands,
    ["update", path, seconds],
    (moment, over) => keepReading(path, moment, seconds * 1000, over),
  );
  mustAddUp(told, JSON.parse(readFileSync(path, "utf8")).number);
  return { told, ...seen };
}

/** Resolves to how many `reads` there were, and how many of them `broken`. */
async function keepReading(path, moment, milliseconds, over) {
  await sleep(moment - Date.now());
  let reads = 0;
  let broken = 0;
  while (!over.aborted && Date.now() < moment + milliseconds) {
    reads++;
    if (!isWhole(readFileSync(path, "utf8"))) broken++;
    await sleep(PAUSE);
  }
  return { reads, broken };
}

function newFile(folder) {
  const path = `${freshPath(folder)}.json`;
  writeFileSync(path, JSON.stringify({ number: 0 }));
  return path;
}

function total(runs, figure) {
  return runs.reduce((sum, run) => sum + figure(run), 0);
}

function isWhole(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
