/** Package managers: one command installs a package that locks. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Command, programOf, requirement, tool } from "../programs.ts";
import { NODES, type Program, type Row } from "../row.ts";
import { playPrograms } from "../scenario.ts";
import {
  addPrograms,
  commonJs,
  type Workspace,
  writeFiles,
} from "../workspace.ts";
import { firstSnippet } from "./readme.ts";

/** A package manager. */
interface Installer {
  tool: string;
  setting: string;
  /** Files that exist before. */
  files?: Record<string, string>;
  /** Returns the command that installs a package. */
  command(specifier: string): Command;
  /** Options of Node that load a module, before its name. */
  loader?: readonly string[];
}

function installer(options: Installer): Row {
  return {
    tool: options.tool,
    setting: options.setting,
    runtimes: NODES,
    async prepare(workspace) {
      const project = workspace.makeFolder("project");
      writeFiles(project, {
        "package.json": `{ "name": "empty", "version": "1.0.0" }`,
        "readme.mjs": firstSnippet(),
        ...options.files,
      });
      await workspace.run(options.command(workspace.tarball), {
        cwd: project,
        env: ownHome(workspace),
      });
      addPrograms(project);
      return async ({ command }) => {
        const node: Command = [...command, ...options.loader ?? []];
        await workspace.runSilently([...node, "readme.mjs"], { cwd: project });
        await playPrograms(workspace, [...node, "program.mjs"], {
          cwd: project,
        });
      };
    },
  };
}

/** The environment of a user who has not run a package manager before. */
function ownHome(workspace: Workspace): NodeJS.ProcessEnv {
  const home = workspace.path("home");
  mkdirSync(home);
  return {
    HOME: home,
    XDG_CACHE_HOME: join(home, "cache"),
    XDG_CONFIG_HOME: join(home, "config"),
    XDG_DATA_HOME: join(home, "data"),
    XDG_STATE_HOME: join(home, "state"),
  };
}

// Functions, because the tools are installed after the rows are listed.
const npm = () => tool("npm-10", "npm");
const yarn = () => tool("yarn-4", "yarn");

/** The options that `yarn node` adds. Node says that loaders may change. */
const PLUG_AND_PLAY = [
  "--no-warnings",
  ...["--require", "./.pnp.cjs"],
  ...["--experimental-loader", "./.pnp.loader.mjs"],
];

/** Whether the rows of Redis can start a server. */
const HAS_REDIS =
  spawnSync("redis-server", ["--version"], { stdio: "ignore" }).status === 0;

/**
 * Acquires and releases a lock of a server of its own, or of no server. Prints
 * `locked`, or the error.
 */
const REDIS_PROGRAM = `
import { RedisLock } from "@x/portalock/redis";
import { spawn } from "node:child_process";
import net from "node:net";

const lockOn = (port, timeout) => {
  const options = { url: "redis://127.0.0.1:" + port, timeout };
  const others = () => new RedisLock("a", { ...options, timeout: 0 });
  return new RedisLock("a", options).run(() => others().tryAcquire()).then(
    (other) => console.log(other === null ? "locked" : "not locked"),
    (error) => console.log(error.message),
  );
};
const lockOnServer = (port) => {
  const options = ["--port", String(port), "--bind", "127.0.0.1", "--save", ""];
  const server = spawn("redis-server", options, { stdio: "ignore" });
  // The lock retries until the server listens.
  lockOn(port, 30_000).finally(() => server.kill());
};
if (${HAS_REDIS}) {
  const probe = net.createServer().listen(0, "127.0.0.1", () => {
    const { port } = probe.address();
    probe.close(() => lockOnServer(port));
  });
} else lockOn(1, 0);
`;

/** Installs the package beside a client of Redis. */
function besideRedis(
  version: "4" | "5",
  note: string,
  expected: RegExp,
): Row {
  return {
    tool: "npm 10",
    setting: `after \`npm install redis@${version}\`${note}`,
    runtimes: NODES,
    async prepare(workspace) {
      const project = workspace.makeFolder("project");
      writeFiles(project, {
        "package.json": `{ "private": true }`,
        "redis.mjs": REDIS_PROGRAM,
        "redis.cjs": commonJs(REDIS_PROGRAM),
      });
      for (const name of [requirement(`redis-${version}`), workspace.tarball]) {
        const command = [
          ...npm(),
          "install",
          "--prefer-offline",
          name,
        ] as const;
        await workspace.run(command, { cwd: project });
      }
      addPrograms(project);
      return async ({ command }: Program) => {
        const options = { cwd: project };
        await playPrograms(workspace, [...command, "program.mjs"], options);
        for (const file of ["redis.mjs", "redis.cjs"]) {
          const text = await workspace.run([...command, file], options);
          assert.match(text, expected);
        }
      };
    },
  };
}

export const installerRows: readonly Row[] = [
  installer({
    tool: "npm 10",
    setting: "`npm install`",
    command: (specifier) => [...npm(), "install", specifier],
  }),
  ...["10", "11", "12"].map((version) =>
    installer({
      tool: `pnpm ${version}`,
      setting: "`pnpm add`",
      command: (name) => [...tool(`pnpm-${version}`, "pnpm"), "add", name],
    })
  ),
  installer({
    tool: "Yarn 4",
    setting: '`yarn add`, `nodeLinker: "node-modules"`',
    files: { ".yarnrc.yml": "nodeLinker: node-modules\n", "yarn.lock": "" },
    command: (name) => [...yarn(), "add", `@x/portalock@file:${name}`],
  }),
  installer({
    tool: "Yarn 4",
    setting: "`yarn add`, Plug'n'Play",
    files: { "yarn.lock": "" },
    command: (name) => [...yarn(), "add", `@x/portalock@file:${name}`],
    loader: PLUG_AND_PLAY,
  }),
  installer({
    tool: "Bun",
    setting: "`bun add`",
    command: (name) => [programOf("bun"), "add", name],
  }),
  besideRedis("4", "; Redis locks need 5 or 6", /node-redis 4.*redis@6/),
  besideRedis("5", "", HAS_REDIS ? /^locked$/m : /ECONNREFUSED/),
];
