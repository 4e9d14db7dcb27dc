/** Defines tests that name the capabilities they need. */

import * as fs from "node:fs";
import process from "node:process";
import { test as nodeTest } from "node:test";
import { type Capability, hasCapability } from "./capabilities.ts";

/** The time limit of a test, long enough for a loaded machine. */
const TIMEOUT_MS = 120_000;

/**
 * The file for the name of the running test. If `scripts/test.mjs` kills the
 * process at its time limit, it reports that name.
 */
const RUNNING_TEST = process.env.PORTALOCK_RUNNING_TEST;

/** Defines a test of `node:test`, skipped if one of its needs is missing. */
export function test(
  name: string,
  body: () => void | Promise<void>,
  ...needs: Capability[]
): void {
  const missing = needs.filter((need) => !hasCapability(need));
  if (missing.length > 0) {
    console.log(`SKIPPED ${name}: needs ${missing.join(" and ")}`);
    nodeTest(name, { skip: `needs ${missing.join(" and ")}` }, () => {});
  } else {
    nodeTest(name, { timeout: TIMEOUT_MS }, async () => {
      if (RUNNING_TEST) fs.writeFileSync(RUNNING_TEST, name);
      await body();
    });
  }
}
