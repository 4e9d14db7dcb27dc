/** The command line of the benchmark. */

import { closeSync, existsSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { wholeNumber } from "../scripts/command.mjs";
import { NAMES } from "./contenders.mjs";
import { SCENARIOS } from "./scenarios/mod.mjs";

const rounds = Object.entries(SCENARIOS)
  .map(([name, { ROUNDS }]) => `${name} ${ROUNDS}`).join(", ");

export const USAGE = `Usage: npm run bench -- [options]

  --scenario NAME   Run only this one, "redis" for all of theirs; may be given
                    several times
  --contender NAME  Measure only this one; may be given several times
  --rounds N        So many rounds, each with every contender
                    (${rounds})
  --seconds N       So long "contention" and "update" contend and "idle" waits
                    (10)
  --awake           Keep the processors awake during "handover"
  --json FILE       Write the results, samples included, to a file
  --figures FOLDER  Write results.json and pictures to a folder
  --help            Print this

Scenarios: ${Object.keys(SCENARIOS).join(", ")}

Contenders: ${NAMES.join(", ")}
`;

/** @throws {Error} That names what cannot be understood. */
export function parseOptions(args) {
  const { values } = parseArgs({
    args,
    options: {
      scenario: { type: "string", multiple: true, default: [] },
      contender: { type: "string", multiple: true, default: [] },
      rounds: { type: "string" },
      seconds: { type: "string", default: "10" },
      awake: { type: "boolean", default: false },
      json: { type: "string" },
      figures: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  const { help, json, figures } = values;
  const scenarios = values.scenario.flatMap(named);
  mustBeKnown("contender", values.contender, NAMES);
  if (json !== undefined && !help) mustBeWritable("--json", json);
  if (figures !== undefined && !help) mustBeFolder(figures);
  return {
    scenarios,
    contenders: values.contender,
    rounds: values.rounds && wholeNumber("--rounds", values.rounds, 1000),
    seconds: wholeNumber("--seconds", values.seconds, 3600),
    awake: values.awake,
    json,
    figures,
    help,
  };
}

/** Those that a word means: one, or all that begin with it. */
function named(word) {
  const names = Object.keys(SCENARIOS);
  const meant = names.filter((name) =>
    name === word || name.startsWith(`${word}-`)
  );
  if (meant.length === 0) mustBeKnown("scenario", [word], names);
  return meant;
}

function mustBeKnown(what, names, known) {
  for (const name of names) {
    if (!known.includes(name)) {
      throw new Error(
        `unknown ${what} "${name}"; there are ${known.join(", ")}`,
      );
    }
  }
}

/** Minutes later would be too late to find out. */
function mustBeWritable(option, file) {
  try {
    closeSync(openSync(file, "a"));
  } catch (error) {
    throw new Error(`${option} cannot write to "${file}": ${error.message}`);
  }
}

function mustBeFolder(folder) {
  try {
    if (!existsSync(folder)) mkdirSync(folder);
  } catch (error) {
    throw new Error(`--figures cannot make "${folder}": ${error.message}`);
  }
  mustBeWritable("--figures", join(folder, "results.json"));
}
