/** The command line of the demo. */

import { parseArgs } from "node:util";
import { wholeNumber } from "../../scripts/shared/command.ts";

export const USAGE = `Usage: npm run demo -- [options]

Processes on Deno, Bun, Node and Python (if portalocker is installed) add to
one number in one file. The lock on that file keeps every increment.

Options:
  --no-lock       Do the same without locking
  --increments N  How often each process adds 1 (default 4000)
  --workers N     How many processes each runtime starts (default 1)
  --help          Show this

The exit status is 0 if the sum is exact, 1 if it is not or a process fails,
2 if the options are wrong.
`;

/** What the command line says. */
export interface Options {
  readonly locked: boolean;
  /** Per process. */
  readonly increments: number;
  /** Per runtime. */
  readonly workers: number;
  readonly help: boolean;
}

/** @throws {Error} If an option or a value is not known. */
export function parseOptions(args: string[]): Options {
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
