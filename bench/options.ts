/** The command line of the benchmark. */

import { closeSync, existsSync, mkdirSync, openSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { wholeNumber } from "../scripts/shared/command.ts";
import { COMPARABLE } from "./compare.ts";
import { NAMES } from "./contenders/mod.ts";
import { SCENARIOS } from "./scenarios/mod.ts";

const scenarioList = Object.entries(SCENARIOS)
  .map(([name, { ROUNDS }]) => `  ${name.padEnd(17)}  ${ROUNDS}`).join("\n");

export const USAGE = `Usage: npm run bench -- [options] [SCENARIO...]

Measures this package and its alternatives in the given scenarios, or in all.
"redis" stands for all scenarios with Redis.

  --before CHECKOUT  Compare this checkout of the package with another one, in
                     ${Object.keys(COMPARABLE).join(" and ")} only
  --contender NAME   Measure only this contender; may be repeated
  --rounds N         The number of rounds, each with every contender
  --seconds N        How long "contention" and "update" contend and "idle"
                     waits (10)
  --awake            Keep the processors awake during hand-overs
  --json FILE        Write the results, including samples, to a file
  --figures FOLDER   Write results.json and figures to a folder
  --help             Print this

Scenarios, and their rounds by default:
${scenarioList}

Contenders: ${NAMES.join(", ")}
`;

/** What the command line says. */
export interface Options {
  /** Empty for all. */
  readonly scenarios: readonly string[];
  /** Empty for all. */
  readonly contenders: readonly string[];
  readonly before: string | undefined;
  readonly rounds: number | undefined;
  readonly seconds: number;
  readonly awake: boolean;
  readonly json: string | undefined;
  readonly figures: string | undefined;
  readonly help: boolean;
}

/** @throws {Error} If an option or a value is not known. */
export function parseOptions(args: string[]): Options {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      before: { type: "string" },
      contender: { type: "string", multiple: true, default: [] },
      rounds: { type: "string" },
      seconds: { type: "string", default: "10" },
      awake: { type: "boolean", default: false },
      json: { type: "string" },
      figures: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  const { before, help, json, figures } = values;
  const known = before === undefined ? SCENARIOS : COMPARABLE;
  const scenarios = positionals.flatMap((word) =>
    matching(word, Object.keys(known))
  );
  mustBeKnown("contender", values.contender, NAMES);
  if (before !== undefined) mustBeCheckout(before);
  if (before !== undefined && figures !== undefined) {
    throw new Error("--before and --figures cannot be used together");
  }
  if (json !== undefined && !help) mustBeWritable("--json", json);
  if (figures !== undefined && !help) mustBeFolder(figures);
  return {
    scenarios,
    contenders: values.contender,
    before: before === undefined ? undefined : resolve(before),
    rounds: values.rounds === undefined
      ? undefined
      : wholeNumber("--rounds", values.rounds, 1000),
    seconds: wholeNumber("--seconds", values.seconds, 3600),
    awake: values.awake,
    json,
    figures,
    help,
  };
}

/** Returns the names that a word selects: one, or all that begin with it. */
function matching(word: string, names: readonly string[]): string[] {
  const found = names.filter((name) =>
    name === word || name.startsWith(`${word}-`)
  );
  if (found.length === 0) mustBeKnown("scenario", [word], names);
  return found;
}

function mustBeKnown(
  what: string,
  names: readonly string[],
  known: readonly string[],
): void {
  for (const name of names) {
    if (!known.includes(name)) {
      throw new Error(
        `unknown ${what} "${name}" (expected one of ${known.join(", ")})`,
      );
    }
  }
}

function mustBeCheckout(folder: string): void {
  if (!existsSync(join(folder, "mod.ts"))) {
    throw new Error(
      `Cannot compare with "${folder}": it does not contain mod.ts`,
    );
  }
}

/** Fails now rather than after a run of minutes. */
function mustBeWritable(option: string, file: string): void {
  try {
    closeSync(openSync(file, "a"));
  } catch (error) {
    throw new Error(
      `Cannot write "${file}" (${option}): ${(error as Error).message}`,
    );
  }
}

function mustBeFolder(folder: string): void {
  try {
    if (!existsSync(folder)) mkdirSync(folder);
  } catch (error) {
    throw new Error(
      `Cannot create "${folder}" (--figures): ${(error as Error).message}`,
    );
  }
  mustBeWritable("--figures", join(folder, "results.json"));
}
