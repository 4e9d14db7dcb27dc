/** The test runner of each runtime, and how it runs one file. */

import type { Runtime } from "../setup/mod.ts";

/** A runtime with its command line for a test file. */
export interface Runner extends Runtime {
  /** @param report Where to write a report in the JUnit format. */
  testCommand(
    file: string,
    report: string,
    pattern: RegExp | null,
  ): [string, ...string[]];
}

type TestArguments = (
  file: string,
  report: string,
  pattern: RegExp | null,
) => string[];

/** What Deno allows in the suite that has to work without FFI. */
const WITHOUT_FFI = ["read", "write", "run", "env", "sys", "net"]
  .map((name) => `--allow-${name}`);

function deno(...permissions: string[]): TestArguments {
  return (file, report, pattern) => [
    "test",
    ...permissions,
    "--no-check",
    `--junit-path=${report}`,
    ...pattern ? [`--filter=/${pattern.source}/`] : [],
    file,
  ];
}

const bun: TestArguments = (file, report, pattern) => [
  "test",
  "--timeout=120000",
  "--reporter=junit",
  `--reporter-outfile=${report}`,
  ...pattern ? ["-t", pattern.source] : [],
  `./${file}`,
];

const node: TestArguments = (file, report, pattern) => [
  "--test-reporter=spec",
  "--test-reporter-destination=stdout",
  "--test-reporter=junit",
  `--test-reporter-destination=${report}`,
  ...pattern ? [`--test-name-pattern=/${pattern.source}/`] : [],
  file,
];

const ARGUMENTS: Record<string, TestArguments> = {
  deno: deno("-A"),
  bun,
  node,
  node24: node,
  node26: node,
  "deno without FFI": deno(...WITHOUT_FFI),
};

/** The names of all suites. */
export const SUITES: readonly string[] = Object.keys(ARGUMENTS);

/** The suite that may skip more tests than the others. */
export const WITHOUT_DESCRIPTORS = "deno without FFI";

/** Returns the runners for the installed runtimes. */
export function runnersFor(installed: readonly Runtime[]): Runner[] {
  const denoRuntime = installed.find(({ name }) => name === "deno");
  const all = denoRuntime === undefined
    ? installed
    : [...installed, { ...denoRuntime, name: WITHOUT_DESCRIPTORS }];
  return all.map((runtime) => ({
    ...runtime,
    testCommand(file, report, pattern) {
      const args = ARGUMENTS[runtime.name];
      if (args === undefined) throw new Error(`no runner: ${runtime.name}`);
      const compiled = file.replace(/\.ts$/, runtime.extension);
      return [runtime.command[0], ...args(compiled, report, pattern)];
    },
  }));
}
