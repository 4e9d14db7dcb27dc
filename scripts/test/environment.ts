/** What the test script passes to the tests. */

import { join } from "node:path";
import process from "node:process";
import { newerPortalocker, python } from "../setup/debian.ts";
import { oldestRuntimes, root, runtimes } from "../setup/mod.ts";
import { muslBun } from "../setup/musl.ts";

/** Returns the environment variables of test processes. */
export function testEnvironment(): NodeJS.ProcessEnv {
  return {
    ...process.env,
    PORTALOCK_TEST: JSON.stringify({
      root,
      runtimes: runtimes(),
      python: python(),
      newerPortalocker: newerPortalocker(join(root, "build", "python")),
      oldest: oldestRuntimes(),
      musl: muslBun(),
    }),
    NO_COLOR: "1",
  };
}
