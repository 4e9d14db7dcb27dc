/** The command line of the benchmark. */

import { closeSync, openSync } from "node:fs";
import { parseArgs } from "node:util";
import { wholeNumber } from "../scripts/command.mjs";
import { NAMES } from "./contenders.mjs";

export const USAGE = `Usage: npm run bench -- [options]

  --contender NAME  Measure only this one; may be given several times
  --rounds N        So many rounds, each with every contender (7)
  --json FILE       Write the results, pooled samples included, to a file
  --help            Print this

Contenders: ${NAMES.join(", ")}
`;

/** @throws {Error} That names what cannot be understood. */
export function parseOptions(args) {
  const { values } = parseArgs({
    args,
    options: {
      contender: { type: "string", multiple: true, default: [] },
      rounds: { type: "string", default: "7" },
      json: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  for (const name of values.contender) {
    if (!NAMES.includes(name)) {
      throw new Error(
        `unknown contender "${name}"; there are ${NAMES.join(", ")}`,
      );
    }
  }
  if (values.json !== undefined && !values.help) mustBeWritable(values.json);
  return {
    contenders: values.contender,
    rounds: wholeNumber("--rounds", values.rounds, 1000),
    json: values.json,
    help: values.help,
  };
}

/** Minutes later would be too late to find out. */
function mustBeWritable(file) {
  try {
    closeSync(openSync(file, "a"));
  } catch (error) {
    throw new Error(`--json cannot write to "${file}": ${error.message}`);
  }
}
