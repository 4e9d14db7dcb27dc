/** Bundlers for servers. Each bundle runs without what it was built from. */

import { type Command, type Program, programOf, tool } from "../programs.ts";
import { type Row, type RuntimeName, RUNTIMES } from "../row.ts";
import { playPrograms } from "../scenario.ts";
import { toolFolder } from "../programs.ts";
import type { Workspace } from "../workspace.ts";
import { join } from "node:path";

const NODES = RUNTIMES.filter((name) => name.startsWith("Node"));

/** Runs a bundle of one file, from an empty folder. */
function runBundle(workspace: Workspace, output: string, file: string) {
  return async ({ command }: Program) => {
    await playPrograms(workspace, [...command, join(output, file)], {
      cwd: output,
    });
  };
}

/** How a bundler is called. */
interface Build {
  tool: string;
  setting: string;
  runtimes?: readonly RuntimeName[];
  /** The name of the bundle. */
  file: string;
  /** Files that configure the bundler. */
  files?: Record<string, string>;
  /** Returns the command that writes the bundle to a folder. */
  command(output: string): Command;
  /** Whether the bundler prints its progress. */
  isNoisy?: boolean;
}

/** A bundle that needs nothing but itself. */
function bundle(build: Build): Row {
  return {
    tool: build.tool,
    setting: build.setting,
    runtimes: build.runtimes ?? RUNTIMES,
    async prepare(workspace) {
      const project = workspace.project(build.files);
      const output = workspace.makeFolder("bundle");
      const command = build.command(output);
      if (build.isNoisy) {
        const text = await workspace.run(command, { cwd: project });
        if (/warn/i.test(text)) throw new Error(text);
      } else await workspace.runSilently(command, { cwd: project });
      workspace.moveAway(project);
      return runBundle(workspace, output, build.file);
    },
  };
}

const esbuild = (format: "esm" | "cjs", ...options: string[]): Build => {
  const file = format === "esm" ? "program.mjs" : "program.cjs";
  return {
    tool: "esbuild",
    setting: ["--bundle --platform=node", `--format=${format}`, ...options]
      .map((option) => `\`${option}\``).join(" ").replaceAll("` `", " "),
    file,
    command: (output) => [
      ...tool("esbuild"),
      ...["program.mjs", "--bundle", "--platform=node", `--format=${format}`],
      ...["--log-level=info", "--log-limit=0", "--log-level=warning"],
      ...options,
      `--outfile=${join(output, file)}`,
    ],
  };
};

const webpack = (setting: string, options: object, file: string): Build => ({
  tool: "webpack 5",
  setting,
  file,
  files: {
    "webpack.config.cjs": `module.exports = ${JSON.stringify(options)};`,
  },
  command: (output) => [
    ...tool("webpack-cli"),
    ...["--output-path", output, "--fail-on-warnings"],
  ],
  isNoisy: true,
});

const vite = (setting: string, options: object): Build => ({
  tool: "Vite",
  setting,
  file: "program.mjs",
  files: { "vite.config.mjs": `export default ${JSON.stringify(options)};` },
  command: (output) => [
    ...tool("vite"),
    ...["build", "--logLevel=warn", "--ssr", "program.mjs"],
    ...["--outDir", output, "--emptyOutDir"],
  ],
});

const ROLLUP_RESOLVE = join(
  toolFolder("@rollup/plugin-node-resolve"),
  "dist/es/index.js",
);

export const bundlerRows: readonly Row[] = [
  bundle(esbuild("esm")),
  bundle(esbuild("cjs")),
  bundle(esbuild("esm", "--minify")),
  bundle({
    ...esbuild("cjs"),
    setting: "`--bundle --platform=node --format=cjs`, from `require`",
    command: (output) =>
      esbuild("cjs").command(output).map((argument) =>
        argument === "program.mjs" ? "program.cjs" : argument
      ) as [string, ...string[]],
  }),
  ...(["es", "cjs"] as const).map((format) => {
    const file = format === "es" ? "program.mjs" : "program.cjs";
    return bundle({
      tool: "Rollup",
      setting:
        `\`@rollup/plugin-node-resolve\`, \`output.format: "${format}"\``,
      file,
      files: {
        "rollup.config.mjs": `
          import resolve from ${JSON.stringify(ROLLUP_RESOLVE)};
          export default {
            input: "program.mjs",
            plugins: [resolve({ preferBuiltins: true })],
          };
        `,
      },
      command: (output) => [
        ...tool("rollup"),
        ...["-c", "rollup.config.mjs", "--format", format, "--silent"],
        ...["--failAfterWarnings", "--file", join(output, file)],
      ],
    });
  }),
  ...(["esm", "cjs"] as const).map((format) => {
    const file = format === "esm" ? "program.mjs" : "program.cjs";
    return bundle({
      tool: "Rolldown",
      setting: `\`platform: "node"\`, \`format: "${format}"\``,
      file,
      command: (output) => [
        ...tool("rolldown"),
        ...["program.mjs", "--platform", "node", "--format", format],
        ...["--log-level", "warn", "--file", join(output, file)],
      ],
    });
  }),
  bundle(webpack('`target: "node"`', {
    mode: "production",
    target: "node20",
    entry: "./program.mjs",
    output: { filename: "program.cjs" },
  }, "program.cjs")),
  bundle(webpack('`target: "node"`, `output.module: true`', {
    mode: "production",
    target: "node20",
    entry: "./program.mjs",
    experiments: { outputModule: true },
    output: { filename: "program.mjs", module: true },
  }, "program.mjs")),
  bundle(vite("`build.ssr`, `ssr.noExternal: true`", {
    ssr: { noExternal: true },
    build: { rollupOptions: { output: { entryFileNames: "program.mjs" } } },
  })),
  {
    tool: "Vite",
    setting: "`build.ssr`",
    runtimes: RUNTIMES,
    async prepare(workspace) {
      const build = vite("", {
        build: { rollupOptions: { output: { entryFileNames: "program.mjs" } } },
      });
      const project = workspace.project(build.files);
      const output = join(project, "output");
      await workspace.runSilently(build.command(output), { cwd: project });
      return runBundle(workspace, output, build.file);
    },
  },
  ...([["node", NODES], ["bun", ["Bun"]]] as const).map(([target, names]) =>
    bundle({
      tool: "bun build",
      setting: `\`--target=${target}\``,
      runtimes: names,
      file: "program.mjs",
      command: (output) => [
        programOf("bun"),
        ...["build", "program.mjs", `--target=${target}`],
        `--outfile=${join(output, "program.mjs")}`,
      ],
      isNoisy: true,
    })
  ),
  bundle({
    tool: "bun build",
    setting: "`--target=node --format=cjs`",
    runtimes: [...NODES, "Bun"],
    file: "program.cjs",
    command: (output) => [
      programOf("bun"),
      ...["build", "program.mjs", "--target=node", "--format=cjs"],
      `--outfile=${join(output, "program.cjs")}`,
    ],
    isNoisy: true,
  }),
];
