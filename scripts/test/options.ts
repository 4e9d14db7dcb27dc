/** The command line of `scripts/test.ts`. */

import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { wholeNumber } from "../shared/command.ts";

export const USAGE = `\
Runs the tests on every runtime and compares the results.

node scripts/test.mjs [OPTION]... [FILE]...

FILE is the name of a test file, with or without its folder and "_test.ts":
lock_test, lock/lock_test.ts, tests/lock/lock_test.ts. A folder, such as redis,
stands for all test files in it. Without any, all files run.

  --only=NAME,...        runtimes: deno, bun, node, node24, node26,
                         "deno without FFI"
  -t, --test-name-pattern=PATTERN
                         only tests whose name matches this regular expression
  --jobs=N               test files that run at the same time
  --timeout=SECONDS      time limit for each test file
  --help
`;

/** The time limit of one test file, about ten times the slowest. */
const DEFAULT_TIMEOUT_S = 600;

/** One test file keeps about 0.8 processors busy. */
const JOBS = availableParallelism() + 1;

export interface TestOptions {
  help: boolean;
  files: string[];
  only: string[] | null;
  pattern: RegExp | null;
  jobs: number;
  timeoutMs: number;
}

/**
 * @param defaultJobs How many files run at the same time by default.
 * @throws {Error} If an argument is not an option or has a wrong value.
 */
export function parseOptions(
  args: string[],
  defaultJobs = JOBS,
): TestOptions {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      only: { type: "string" },
      "test-name-pattern": { type: "string", short: "t" },
      jobs: { type: "string" },
      timeout: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  const pattern = values["test-name-pattern"];
  const jobs = values.jobs ?? `${defaultJobs}`;
  const timeout = values.timeout ?? `${DEFAULT_TIMEOUT_S}`;
  return {
    help: values.help,
    files: positionals,
    only: values.only?.split(",").map((name) => name.trim()) ?? null,
    pattern: pattern === undefined ? null : new RegExp(pattern),
    jobs: wholeNumber("--jobs", jobs, 64),
    timeoutMs: wholeNumber("--timeout", timeout, 86_400) * 1000,
  };
}
