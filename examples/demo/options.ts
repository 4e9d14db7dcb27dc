/** The command line of the demo. */

import { parseArgs } from "node:util";
import { wholeNumber } from "../../scripts/command.mjs";

export const USAGE = `Usage: npm run demo -- [options]

Deno, Bun, Node and Python's portalocker, where it is installed, add to one
number in one file, and the lock on that file keeps every increment.

Options:
  --no-lock       Do the same without locking
  --increments N  How often each process adds 1 (default 4000)
  --workers N     How many processes each runtime starts (default 1)
  --help          Show this

The exit status is 0 if the sum is exact, 1 if it is not or a process fails,
2 if the options are wrong.
`;

/** @throws {Error} That names what cannot be understood. */
export function parseOptions(args) {
  const { values } = parseArgs({
    args,
    options: {
      "no-lock": { type: "boolean", default: false },
      increments: { type: "string", default: "4000" },
      workers: { type: "string", default: "1" },
      help: { type: "boolean", default: false },
    },
  });
  return {
    locked: !values["no-lock"],
    increments: wholeNumber("--increments", values.increments, 1_000_000),
    workers: wholeNumber("--workers", values.workers, 32),
    help: values.help,
  };
}
