/** The package as npm installs it, without any tool. */

import assert from "node:assert/strict";
import { cpSync, existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import type { Program } from "../programs.ts";
import { NODES, type Row, type RuntimeName, RUNTIMES } from "../row.ts";
import { playPrograms, playTogether } from "../scenario.ts";
import { type Workspace, writeFiles } from "../workspace.ts";

const NODE_AND_BUN = RUNTIMES.filter((name) => name !== "Deno");

const NODES_WITHOUT_FFI: readonly RuntimeName[] = NODES.filter((name) =>
  name !== "Node 26"
);

/** Runs one of the programs in a project. */
function program(workspace: Workspace, file: string) {
  const project = workspace.project();
  const addon = `/dist/native/${process.platform}-${process.arch}.node`;
  return async ({ name, command }: Program) => {
    const options = { cwd: project };
    const reports = await playPrograms(workspace, [...command, file], options);
    for (const { addons } of reports) {
      const hasAddon = addons.some((file) => file.endsWith(addon));
      assert.equal(hasAddon, NODES_WITHOUT_FFI.includes(name), "its addon");
    }
  };
}

/** The runtimes on which a waiter in a worker polls. */
const POLLING_WORKERS: readonly RuntimeName[] = ["Bun", "Deno"];

export const runtimeRows: readonly Row[] = [
  {
    tool: "no tool",
    setting: "`import`",
    runtimes: RUNTIMES,
    prepare: (workspace) => program(workspace, "program.mjs"),
  },
  {
    tool: "no tool",
    setting: "`require`",
    runtimes: RUNTIMES,
    prepare: (workspace) => program(workspace, "program.cjs"),
  },
  {
    tool: "no tool",
    setting: "`import` and `require` in one process",
    runtimes: RUNTIMES,
    prepare(workspace) {
      const project = workspace.project();
      return async ({ command }) => {
        const env = { CONSUME_FOLDER: workspace.makeFolder("meeting") };
        const options = { cwd: project, env, timeoutMs: 60_000 };
        await workspace.runSilently([...command, "copies.mjs"], options);
      };
    },
  },
  {
    tool: "no tool",
    setting: "in a working directory that contains planted native code",
    runtimes: RUNTIMES,
    prepare(workspace) {
      const project = workspace.project();
      const hostile = plantedFolder(workspace, project);
      return async ({ command }) => {
        for (const file of ["program.mjs", "program.cjs"]) {
          const reports = await playPrograms(
            workspace,
            [...command, join(project, file)],
            { cwd: hostile },
          );
          for (const { fromWorkingDirectory } of reports) {
            assert.deepEqual(fromWorkingDirectory, []);
          }
        }
        assert.ok(!existsSync(join(hostile, "executed")));
      };
    },
  },
  {
    tool: "worker_threads",
    setting: "",
    runtimes: RUNTIMES,
    polls: POLLING_WORKERS,
    prepare(workspace) {
      const project = workspace.project();
      return ({ name, command }) =>
        playTogether(
          workspace,
          [...command, "workers.mjs"],
          { cwd: project },
          POLLING_WORKERS.includes(name),
        );
    },
  },
  {
    tool: "cluster",
    setting: "",
    runtimes: NODE_AND_BUN,
    prepare(workspace) {
      const project = workspace.project();
      return ({ command }) =>
        playTogether(workspace, [...command, "cluster.mjs"], {
          cwd: project,
        });
    },
  },
];

/**
 * Makes a working directory that another user has prepared: the names of
 * packages that may contain native code, and a copy of the package's own.
 */
function plantedFolder(workspace: Workspace, project: string): string {
  const folder = workspace.makeFolder("planted");
  const mark = `require("fs").writeFileSync(__dirname + "/../../executed", "")`;
  for (const name of ["koffi", "fs-ext", "bun:ffi", "node:ffi", "ffi"]) {
    writeFiles(folder, { [`node_modules/${name}/index.js`]: mark });
  }
  const native = join(project, "node_modules/@x/portalock/dist/native");
  const places = ["native", "dist/native", "node_modules/@x/portalock/dist"];
  for (const file of readdirSync(native)) {
    for (const place of ["", ...places, `${places[2]}/native`]) {
      cpSync(join(native, file), join(folder, place, file));
    }
  }
  return folder;
}
