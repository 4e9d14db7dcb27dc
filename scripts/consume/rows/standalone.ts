/** Programs that run without `node_modules`. */

import { chmodSync, cpSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import {
  type Program,
  programOf,
  tool,
  toolFolder,
  toolNode,
} from "../programs.ts";
import { NODES, type Row } from "../row.ts";
import { playPrograms } from "../scenario.ts";
import type { Workspace } from "../workspace.ts";

/** Marks where Node looks for the program that is injected into it. */
const FUSE = "NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2";

/** Builds a single program with `bun build --compile`. */
function compiledByBun(setting: string, ...options: string[]): Row {
  return {
    tool: "bun build --compile",
    setting,
    runtimes: ["Bun"],
    async prepare(workspace) {
      const project = workspace.project();
      const output = workspace.makeFolder("output");
      const program = join(output, "program");
      await workspace.run([
        programOf("bun"),
        ...["build", "--compile", "program.mjs", "--outfile", program],
        ...options,
      ], { cwd: project });
      workspace.moveAway(project);
      return async () => {
        await playPrograms(workspace, [program], { cwd: output });
      };
    },
  };
}

/** Prints what `@vercel/nft` traces; its own program does not take conditions. */
const traceProgram = (file: string, conditions: readonly string[]) => `
  const { nodeFileTrace } = require(${
  JSON.stringify(toolFolder("@vercel/nft"))
});
  const options = { base: process.cwd(), conditions: ${
  JSON.stringify(conditions)
} };
  nodeFileTrace(["${file}"], options).then(({ fileList, warnings }) => {
    for (const warning of warnings) console.error(warning);
    process.stdout.write(JSON.stringify([...fileList]));
  });
`;

/** Runs what `@vercel/nft` traces, and nothing else. */
function traced(
  setting: string,
  file: string,
  runtimes: Row["runtimes"],
  conditions?: readonly string[],
): Row {
  return {
    tool: "@vercel/nft",
    setting,
    runtimes,
    async prepare(workspace) {
      const project = workspace.project({
        "trace.cjs": traceProgram(file, conditions ?? ["node"]),
      });
      const output = workspace.makeFolder("traced");
      const trace = [toolNode(), "trace.cjs"] as const;
      // Not JSON if there is a warning.
      const text = await workspace.run(trace, { cwd: project });
      for (const path of JSON.parse(text) as string[]) {
        cpSync(join(project, path), join(output, path));
      }
      workspace.moveAway(project);
      return async ({ command }: Program) => {
        await playPrograms(workspace, [...command, file], { cwd: output });
      };
    },
  };
}

/** Bundles the program and makes it a part of Node. */
async function singleExecutable(
  workspace: Workspace,
  { name, command: [node] }: Program,
): Promise<string> {
  const project = workspace.project();
  const output = workspace.makeFolder("output");
  const program = join(output, "program");
  const run = (...command: [string, ...string[]]) =>
    workspace.run(command, { cwd: project });
  await run(
    ...tool("esbuild"),
    ...["program.mjs", "--bundle", "--platform=node", "--format=cjs"],
    ...["--log-level=warning", "--outfile=bundle.cjs"],
  );
  const builds = name === "Node 26";
  writeFileSync(
    join(project, "sea.json"),
    JSON.stringify({
      main: "bundle.cjs",
      output: builds ? program : "sea.blob",
      disableExperimentalSEAWarning: true,
    }),
  );
  if (builds) await run(node, "--build-sea", "sea.json");
  else {
    await run(node, "--experimental-sea-config", "sea.json");
    cpSync(node, program);
    chmodSync(program, 0o755);
    await run(
      ...tool("postject"),
      ...[program, "NODE_SEA_BLOB", "sea.blob", "--sentinel-fuse", FUSE],
    );
  }
  workspace.moveAway(project);
  return program;
}

export const standaloneRows: readonly Row[] = [
  compiledByBun(""),
  compiledByBun("`--minify --bytecode --format=cjs`", ...[
    "--minify",
    "--bytecode",
    "--format=cjs",
  ]),
  {
    tool: "Node SEA",
    setting: "bundled by esbuild with `--format=cjs`",
    runtimes: NODES,
    prepare(workspace) {
      return async (program) => {
        const path = await singleExecutable(workspace, program);
        await playPrograms(workspace, [path], { cwd: dirname(path) });
      };
    },
  },
  traced("from `import`", "program.mjs", [...NODES, "Bun"]),
  traced("from `require`", "program.cjs", NODES),
  traced(
    'from `require`, `conditions: ["bun"]`',
    "program.cjs",
    ["Bun"],
    ["bun"],
  ),
];
