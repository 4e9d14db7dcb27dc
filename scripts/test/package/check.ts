/** Runs the checks of the npm package, and counts them. */

import { spawnSync } from "node:child_process";

/** Whether the output of a program is right. */
export type Expected = (stdout: string, stderr: string) => boolean;

export const counts = { passed: 0, failed: 0 };

/** A check that is a program, which must succeed with the expected output. */
export function check(
  name: string,
  cwd: string,
  [program, ...args]: readonly [string, ...string[]],
  expected: Expected = () => true,
): void {
  const { status, stdout, stderr } = spawnSync(program, args, {
    cwd,
    encoding: "utf8",
  });
  const isGood = status === 0 && expected(stdout, stderr);
  report(name, isGood ? "" : stdout + stderr || `status ${status}`);
}

/** Prints and counts a check. `wrong` is `""` if it passed. */
export function report(name: string, wrong: string): void {
  counts[wrong === "" ? "passed" : "failed"]++;
  console.log(`${wrong === "" ? "ok" : "FAILED"} ${name}`);
  if (wrong !== "") console.log(wrong);
}
