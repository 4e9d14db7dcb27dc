/** Test runners that replace the timers and load modules by themselves. */

import { type Command, tool, toolFolder } from "../programs.ts";
import { NODES, type Program, type Row } from "../row.ts";
import { playRoles } from "../scenario.ts";
import { link } from "../workspace.ts";

/** How a test runner is called. */
interface TestRunner {
  tool: string;
  setting: string;
  runtimes?: Row["runtimes"];
  files: Record<string, string>;
  command(program: Program): Command;
}

/** A test that waits for a process that no test runner has started. */
function testRunner(options: TestRunner): Row {
  return {
    runtimes: NODES,
    ...options,
    prepare(workspace) {
      const project = workspace.project(options.files);
      link(project, "vitest", toolFolder("vitest"));
      return async (program) => {
        const commands = {
          hold: [...program.command, "program.mjs"] as const,
          wait: options.command(program),
        };
        await playRoles(
          workspace,
          (role, env) => workspace.run(commands[role], { cwd: project, env }),
        );
      };
    },
  };
}

/** A test in the syntax that Jest and Vitest share. */
function fakeTimersTest(imports: string, timers: "jest" | "vi"): string {
  return `${imports}
    test("locks with fake timers", async () => {
      ${timers}.useFakeTimers();
      const result = await lockWithFakeTimers(
        process.env.CONSUME_FOLDER,
        (milliseconds) => ${timers}.advanceTimersByTimeAsync(milliseconds),
      );
      expect(result).toEqual({
        error: undefined,
        isFree: false,
        queued: "acquired",
        refused: true,
        followsFakeClock: true,
      });
    }, 60_000);
  `;
}

/** The cache must not be in the temporary folder, which must remain empty. */
const JEST_CONFIG = JSON.stringify({ cacheDirectory: "cache", transform: {} });

export const testRunnerRows: readonly Row[] = [
  testRunner({
    tool: "Jest",
    setting: "CommonJS, fake timers",
    files: {
      "jest.config.json": JEST_CONFIG,
      "fake_timers.test.cjs": fakeTimersTest(
        `const { lockWithFakeTimers } = require("./fake_timers.cjs");`,
        "jest",
      ),
    },
    command: ({ command: [node] }) => [...tool("jest", "jest", node), "--ci"],
  }),
  testRunner({
    tool: "Jest",
    setting: "`--experimental-vm-modules`, fake timers",
    files: {
      "jest.config.json": JEST_CONFIG,
      "fake_timers.test.mjs": fakeTimersTest(
        `const { jest } = import.meta;
         import { lockWithFakeTimers } from "./fake_timers.mjs";`,
        "jest",
      ),
    },
    command: ({ command: [node] }) => {
      const [program, ...args] = tool("jest", "jest", node);
      return [program, "--experimental-vm-modules", ...args, "--ci"];
    },
  }),
  testRunner({
    tool: "Vitest",
    setting: "fake timers",
    // Vitest does not support Node 20.
    runtimes: NODES.filter((name) => name !== "Node 20"),
    files: {
      "fake_timers.test.mjs": fakeTimersTest(
        `import { expect, test, vi } from "vitest";
         import { lockWithFakeTimers } from "./fake_timers.mjs";`,
        "vi",
      ),
    },
    command: ({ command: [node] }) => [
      ...tool("vitest", "vitest", node),
      ...["run", "--cache=false"],
    ],
  }),
];
