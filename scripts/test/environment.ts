/** What the test script passes to the tests. */

import { join } from "node:path";
import process from "node:process";
import { newerPortalocker, python } from "../setup/debian.ts";
import { oldestRuntimes, root, type Runtime } from "../setup/mod.ts";
import { muslBun } from "../setup/musl.ts";

/**
 * Returns the environment variables of test processes.
 *
 * @param children The runtimes on which the tests start child processes.
 */
export function testEnvironment(
  children: readonly Runtime[],
): NodeJS.ProcessEnv {
  return {
    ...process.env,
    PORTALOCK_TEST: JSON.stringify({
      root,
      runtimes: children,
      python: python(),
      newerPortalocker: newerPortalocker(join(root, "build", "python")),
      oldest: oldestRuntimes(),
      musl: muslBun(),
    }),
    // Without it, each Node 26 removes the types of every file that it loads,
    // which takes three quarters of the time in which it starts.
    NODE_COMPILE_CACHE: join(root, "build", "compile-cache"),
    NO_COLOR: "1",
  };
}
