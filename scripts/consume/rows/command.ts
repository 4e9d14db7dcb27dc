/** The `portalock` command, as docs/command.md says that it is started. */

import assert from "node:assert/strict";
import {
  chmodSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { root } from "../../setup/mod.ts";
import { type Command, tool } from "../programs.ts";
import { startRegistry } from "../registry.ts";
import { NODES, type Program, type Row } from "../row.ts";
import { link, type Workspace, writeFiles } from "../workspace.ts";

/**
 * What the command does, with its words as arguments: it passes the status, and
 * excludes flock(1) and is excluded by it. `-c` runs `/bin/sh` unless a file of
 * the directory says otherwise.
 */
const SCRIPT = [
  "exec 2>errors",
  `"$@" f sh -c 'flock -n f true; echo "$?"; exit 3'; echo "$?"`,
  'flock f "$@" -n -E 9 f true; echo "$?"',
  `"$@" f -c 'echo line'`,
  '"$@" status f',
].join("\n");

const EXPECTED = "1\n3\n9\nline\nf: not locked\n";

/** Files that Bun obeys in the current directory, unless an option forbids it. */
const PLANTED = {
  "bunfig.toml": 'preload = ["./planted.ts"]\n',
  "planted.ts": 'console.log("planted code");\n',
  ".env": "SHELL=/planted/shell\n",
};

/** The programs that {@linkcode SCRIPT} needs. */
const TOOLS = ["sh", "flock"];

/** Checks the command in an empty folder, with these programs in `PATH`. */
async function checkCommand(
  workspace: Workspace,
  words: Command,
  files: Record<string, string>,
  env: NodeJS.ProcessEnv,
): Promise<void> {
  const cwd = workspace.makeFolder("caller");
  writeFiles(cwd, files);
  const text = await workspace.run(["/bin/sh", "-c", SCRIPT, "sh", ...words], {
    cwd,
    // Not that of the user, which `-c` would run.
    env: { ...env, SHELL: undefined },
  });
  const errors = readFileSync(join(cwd, "errors"), "utf8");
  assert.equal(text, EXPECTED, `standard error:\n${errors}`);
}

/** Makes a folder of programs, and returns it as the value of `PATH`. */
function path(
  workspace: Workspace,
  programs: Readonly<Record<string, Command>>,
): string {
  const folder = workspace.makeFolder("bin");
  for (const name of TOOLS) symlinkSync(`/usr/bin/${name}`, join(folder, name));
  for (const [name, command] of Object.entries(programs)) {
    const [program, ...args] = command;
    if (args.length === 0) {
      symlinkSync(program, join(folder, name));
      continue;
    }
    const words = command.map((word) => `'${word}'`).join(" ");
    writeFileSync(join(folder, name), `#!/bin/sh\nexec ${words} "$@"\n`);
    chmodSync(join(folder, name), 0o755);
  }
  return folder;
}

/** The package is not installed: the runner gets it from a registry. */
function fetched(
  name: string,
  runtimes: Row["runtimes"],
  words: (program: Program) => {
    command: Command;
    programs: Readonly<Record<string, Command>>;
  },
): Row {
  return {
    tool: "the command",
    setting: name,
    runtimes,
    prepare(workspace) {
      return async (program) => {
        const registry = await startRegistry(workspace.tarball);
        const { command, programs } = words(program);
        const HOME = workspace.makeFolder("home");
        try {
          await checkCommand(workspace, command, {}, {
            ...registry.env,
            HOME,
            DENO_DIR: join(HOME, "deno"),
            PATH: path(workspace, programs),
          });
        } finally {
          registry.close();
        }
      };
    },
  };
}

/** An executable that the lines of docs/command.md build. */
function built(
  name: string,
  runtime: "Bun" | "Node 26",
  recipe: RegExp,
): Row {
  return {
    tool: "the command",
    setting: name,
    runtimes: [runtime],
    prepare(workspace) {
      return async ({ command: [program] }) => {
        const project = workspace.project();
        linkRolldown(project);
        await workspace.run(["/bin/sh", "-ec", recipeOf(recipe)], {
          cwd: project,
          env: {
            PATH: path(workspace, {
              bun: [program],
              node: [program],
              npx: tool("npm-10", "npx", program),
            }),
          },
        });
        const executable = join(workspace.makeFolder("output"), "portalock");
        renameSync(join(project, "portalock"), executable);
        workspace.moveAway(project);
        const PATH = path(workspace, {});
        await checkCommand(workspace, [executable], PLANTED, { PATH });
      };
    },
  };
}

/** Installs the bundler of this checkout, so that npx finds it. */
function linkRolldown(project: string): void {
  const modules = join(root, "node_modules");
  link(project, "rolldown", join(modules, "rolldown"));
  link(project, ".bin/rolldown", join(modules, ".bin", "rolldown"));
}

function recipeOf(pattern: RegExp): string {
  const text = readFileSync(join(root, "docs", "command.md"), "utf8");
  const [, recipe] = pattern.exec(text) ?? [];
  assert.ok(recipe !== undefined, `docs/command.md does not have ${pattern}`);
  return recipe;
}

export const commandRows: readonly Row[] = [
  fetched("`npx @x/portalock`", NODES, ({ command: [node] }) => ({
    command: ["npx", "@x/portalock"],
    programs: { node: [node], npx: tool("npm-10", "npx", node) },
  })),
  // Without Node, which runs the command if it is installed.
  fetched("`bunx @x/portalock`", ["Bun"], ({ command: [bun] }) => ({
    command: ["bunx", "@x/portalock"],
    programs: { bun: [bun], bunx: [bun, "x"] },
  })),
  fetched("`deno run -A npm:@x/portalock`", ["Deno"], ({ command }) => ({
    command: ["deno", "run", "-A", "npm:@x/portalock"],
    programs: { deno: [command[0]] },
  })),
  built(
    "`bun build --compile`, as in [command.md](command.md)",
    "Bun",
    /^(bun build --compile(?:.*\\\n)*.*)$/m,
  ),
  built(
    "Node SEA, as in [command.md](command.md)",
    "Node 26",
    /^# Node 26\n([^]*?)^```$/m,
  ),
];
