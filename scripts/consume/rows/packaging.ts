/** Tools that check the package itself. */

import { tool } from "../programs.ts";
import type { Row } from "../row.ts";

export const packagingRows: readonly Row[] = [
  {
    tool: "publint",
    setting: "`--strict`: no suggestion, warning or error",
    runtimes: [],
    async prepare(workspace) {
      const text = await workspace.run(
        [...tool("publint"), "run", workspace.tarball, "--strict"],
        { cwd: workspace.folder },
      );
      if (!text.includes("All good!")) throw new Error(text);
    },
  },
  {
    tool: "attw",
    setting: "no problem, also with `node10` and `bundler`",
    runtimes: [],
    async prepare(workspace) {
      await workspace.run(
        // The command is a program, and does not have types.
        [
          ...tool("@arethetypeswrong/cli", "attw"),
          workspace.tarball,
          "--exclude-entrypoints",
          "./cli",
        ],
        { cwd: workspace.folder },
      );
    },
  },
];
