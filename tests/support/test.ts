/** Defines tests that name the capabilities they need. */

import { test as nodeTest } from "node:test";
import { type Capability, hasCapability } from "./capabilities.ts";

/** The time limit of a test, long enough for a loaded machine. */
const TIMEOUT_MS = 120_000;

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
    nodeTest(name, { timeout: TIMEOUT_MS }, async () => await body());
  }
}
