/**
 * Measures how long the command takes to run `true` under a free lock, beside
 * flock(1) and the empty program of each runtime:
 *
 * ```sh
 * node bench/command.ts [--rounds=N]
 * ```
 *
 * In each round, one process of each subject runs, one at a time and in random
 * order. The command is the one that npm gets, built from this checkout.
 */

import { spawn, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import {
  node24,
  root,
  runtimes,
  setUp,
  tarball,
} from "../scripts/setup/mod.ts";
import { command, wholeNumber } from "../scripts/shared/command.ts";
import { short } from "./report/format.ts";
import { table } from "./report/report.ts";
import { quantileOf } from "./runner/histogram.ts";
import { describeMachine, heading } from "./runner/machine.ts";
import { progress, shuffled } from "./runner/rounds.ts";
import { workspace } from "./runner/workspace.ts";

const DEFAULT_ROUNDS = "30";

const USAGE = `\
node bench/command.ts [--rounds=N]

Measures how long "portalock FILE true" takes on each runtime, beside
"flock FILE true" and an empty program of the runtime. Needs Node 26.

  --rounds=N  how many rounds (${DEFAULT_ROUNDS})
  --help
`;

interface CommandOptions {
  readonly help: boolean;
  readonly rounds: number;
}

function parseOptions(args: string[]): CommandOptions {
  const { values: { rounds, help } } = parseArgs({
    args,
    options: {
      rounds: { type: "string", default: DEFAULT_ROUNDS },
      help: { type: "boolean", default: false },
    },
  });
  return { help, rounds: wholeNumber("--rounds", rounds, 1000) };
}

/** A command line, and how long its processes took, in milliseconds. */
interface Subject {
  readonly name: string;
  readonly words: readonly string[];
  readonly times: number[];
  /** The empty program of the same runtime. */
  readonly empty: Subject | undefined;
}

/** The minima are of processes that waited least for other processes. */
const COLUMNS = [
  { title: "", cell: ({ name }: Subject) => name },
  { title: "median ms", cell: ({ times }: Subject) => short(median(times)) },
  {
    title: "- empty program",
    cell: ({ times, empty }: Subject) => difference(median, times, empty),
  },
  { title: "minimum ms", cell: ({ times }: Subject) => short(minimum(times)) },
  {
    title: "- empty program",
    cell: ({ times, empty }: Subject) => difference(minimum, times, empty),
  },
];

function difference(
  of: (times: readonly number[]) => number,
  times: readonly number[],
  empty: Subject | undefined,
): string {
  return empty === undefined ? "" : short(of(times) - of(empty.times));
}

await command("command", { USAGE, parseOptions }, async ({ rounds }) => {
  setUp();
  tarball();
  const folder = workspace();
  console.log(heading(describeMachine([], folder)).join("\n"));
  const subjects = findSubjects(folder);
  // One more, which does not count.
  for (let round = 0; round <= rounds; round++) {
    for (const { words, times } of shuffled(subjects)) {
      progress(`Round ${round} of ${rounds}`);
      const time = await measure(words);
      if (round > 0) times.push(time);
    }
  }
  progress("");
  console.log(`\nWhole processes, ${rounds} rounds\n`);
  console.log(table(COLUMNS, subjects).join("\n"));
  return true;
});

function findSubjects(folder: string): Subject[] {
  const file = join(folder, "lock");
  const script = join(root, "dist", "cli.js");
  const nothing = join(folder, "empty.mjs");
  writeFileSync(nothing, "");
  const subject = (name: string, words: string[], empty?: Subject) => ({
    name,
    words,
    times: [],
    empty,
  });
  const subjects: Subject[] = [subject("flock(1)", ["flock", file, "true"])];
  for (const { name, command } of [...runtimes(), ...node24()]) {
    const empty = subject(`${name}, empty program`, [...command, nothing]);
    const words = [...command, script, file, "true"];
    const fcntl = [...command, script, "--fcntl", file, "true"];
    subjects.push(empty, subject(`${name}, portalock`, words, empty));
    subjects.push(subject(`${name}, portalock --fcntl`, fcntl, empty));
    if (name !== "bun") continue;
    const binary = join(folder, "portalock");
    const build = ["build", "--compile", "--splitting", "--format", "esm"];
    build.push("--no-compile-autoload-bunfig", "--no-compile-autoload-dotenv");
    build.push("--external", "redis", "--external", "ioredis");
    build.push(script, "--outfile", binary);
    const { status, stderr } = spawnSync(command[0], build, {
      encoding: "utf8",
    });
    if (status !== 0) throw new Error(`Cannot compile the command: ${stderr}`);
    const compiled = [binary, file, "true"];
    subjects.push(subject("bun, compiled portalock", compiled, empty));
  }
  return subjects;
}

function measure([program = "", ...args]: readonly string[]): Promise<number> {
  const start = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: "ignore" });
    child.on("error", reject).on(
      "exit",
      (code) =>
        code === 0
          ? resolve(performance.now() - start)
          : reject(new Error(`${program} ended with status ${code}`)),
    );
  });
}

function minimum(values: readonly number[]): number {
  return Math.min(...values);
}

function median(values: readonly number[]): number {
  return quantileOf([...values].sort((a, b) => a - b), 0.5);
}
