/** Runs programs that load the npm package, on every runtime. */

import { node24, type Runtime, runtimes } from "../../setup/mod.ts";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { check, report } from "./check.ts";

/** Lists the addons that are loaded from now on, by their real paths. */
const LIST_ADDONS = `
  const addons = [];
  const { dlopen } = process;
  process.dlopen = (module, file, ...flags) => {
    try {
      addons.push(realpathSync(file));
    } catch {
      addons.push(file);
    }
    return dlopen.call(process, module, file, ...flags);
  };
`;

/** Prints the file that was loaded, and the folder of the addon, if any. */
const PRINT_LOADED = `
  const folders = addons.map((path) => basename(dirname(path)));
  console.log(basename(loaded), typeof file.fd, ...folders);
  file.closeSync();
`;
const MODULE = `
  import { Lock, LOCK_EX } from "@x/portalock";
  import { realpathSync } from "node:fs";
  import { basename, dirname } from "node:path";
  import process from "node:process";
  ${LIST_ADDONS}
  const file = await new Lock("a.lock", { flags: LOCK_EX }).acquire();
  const loaded = import.meta.resolve("@x/portalock");
  ${PRINT_LOADED}`;
const COMMON = `
  const { Lock } = require("@x/portalock");
  const { realpathSync } = require("node:fs");
  const { basename, dirname } = require("node:path");
  ${LIST_ADDONS}
  const file = new Lock("a.lock").acquireSync();
  const loaded = require.resolve("@x/portalock");
  ${PRINT_LOADED}`;

/** Runs the code as a bundle for ES modules does, without `__filename`. */
const BUNDLED = `
  const { createRequire } = require("node:module");
  const { readFileSync } = require("node:fs");
  const { join } = require("node:path");
  const code = join(__dirname, "node_modules/@x/portalock/dist/mod.cjs");
  const load = new Function("require", "exports", readFileSync(code, "utf8"));
  const library = {};
  load(createRequire(code), library);
  const file = new library.Lock("a.lock").acquireSync();
  console.log(typeof file.fd);
  file.closeSync();
`;

/** Defines a function that lists the state of the process. */
const STATE = `
  ${LIST_ADDONS}
  const state = () => [
    ...Reflect.ownKeys(globalThis).map((key) => "global " + String(key)),
    ...Object.keys(process.env).map((name) => "variable " + name),
    ...process.eventNames().map((name) =>
      process.listenerCount(name) + " listeners of " + String(name)
    ),
    ...process.getActiveResourcesInfo?.() ?? [],
    ...addons,
  ];
  const before = state();
`;
/** Prints what loading the package has added. */
const PRINT_ADDED = `
  const added = state().filter((line) => !before.includes(line));
  console.log(added.join("\\n"));
`;
const MODULE_EFFECTS = `
  import { realpathSync } from "node:fs";
  import process from "node:process";
  ${STATE}
  await import("@x/portalock");
  await import("@x/portalock/redis");
  ${PRINT_ADDED}`;
const COMMON_EFFECTS = `
  const { realpathSync } = require("node:fs");
  ${STATE}
  require("@x/portalock");
  require("@x/portalock/redis");
  ${PRINT_ADDED}`;
/** Copies share what must be one; Deno adds the other one. */
const ADDED =
  /^(global nodeBootstrap\n)?global Symbol\(@x\/portalock [^)]+\)\n$/;

/** Prints which of the built-ins that take long to load an import loads. */
const SLOW = `
  await import("@x/portalock");
  const slow = ["crypto", "net", "tty", "worker_threads", "zlib"];
  const list = globalThis.process.moduleLoadList ?? [];
  console.log(slow.filter((name) => list.includes("NativeModule " + name)));
`;

const USE_REDIS = `
  const url = "redis://127.0.0.1:1";
  new RedisLock("a", { url, timeout: 0 }).acquire().catch((error) =>
    console.log(error.name + ": " + error.message)
  );
`;
const MODULE_REDIS = `
  import { RedisLock } from "@x/portalock/redis";
  ${USE_REDIS}`;
const COMMON_REDIS = `
  const { RedisLock } = require("@x/portalock/redis");
  ${USE_REDIS}`;

/** The command, as `deno run` starts the export of JSR. */
const COMMAND = 'import "@x/portalock/cli";';

export const lockPrograms: Readonly<Record<string, string>> = {
  "module.mjs": MODULE,
  "common.cjs": COMMON,
  "bundled.cjs": BUNDLED,
  "effects.mjs": MODULE_EFFECTS,
  "effects.cjs": COMMON_EFFECTS,
  "slow.mjs": SLOW,
  "redis.mjs": MODULE_REDIS,
  "redis.cjs": COMMON_REDIS,
  "cli.mjs": COMMAND,
};

/**
 * Checks that each runtime locks with the files that are meant for it. Older
 * versions of Node need the addon.
 */
export function checkLocks(project: string): void {
  for (const runtime of allRuntimes()) {
    const { name } = runtime;
    const addon = ["node", "node24"].includes(name) ? " native" : "";
    const common = name === "bun" ? "mod.js" : "mod.cjs";
    checkProgram(runtime, project, "module.mjs", `mod.js number${addon}\n`);
    checkProgram(runtime, project, "common.cjs", `${common} number${addon}\n`);
    checkProgram(runtime, project, "bundled.cjs", "number\n");
    checkProgram(runtime, project, "slow.mjs", "[]\n");
    for (const program of ["effects.mjs", "effects.cjs"]) {
      checkProgram(runtime, project, program, ADDED);
    }
  }
}

/**
 * Checks the command of the package: its export on each runtime, the name that
 * npm installs, and the manual page that `npm install --global` installs.
 */
export function checkCommand(project: string): void {
  const folder = join(project, "node_modules");
  const script = "cat a.lock; echo a; exit 3";
  for (const { name, command } of allRuntimes()) {
    checkProcess(`@x/portalock/cli, ${name}`, project, [...command, "cli.mjs"]);
  }
  checkProcess("the command, npm's link", project, [
    join(folder, ".bin", "portalock"),
  ]);
  const installed = join(folder, "@x", "portalock");
  const { man } = JSON.parse(
    readFileSync(join(installed, "package.json"), "utf8"),
  );
  check(
    "the manual page",
    installed,
    ["cat", man],
    (stdout) => stdout.startsWith(".TH PORTALOCK 1 "),
  );

  function checkProcess(name: string, cwd: string, command: string[]): void {
    const { status, stdout, stderr } = spawnSync(
      command[0]!,
      [...command.slice(1), "a.lock", "sh", "-c", script],
      { cwd, encoding: "utf8" },
    );
    const isGood = status === 3 && stdout === "a\n";
    report(name, isGood ? "" : `${stdout}${stderr}status ${status}`);
  }
}

/** Checks what a Redis lock reports, with and without the redis package. */
export function checkRedis(
  project: string,
  what: "without redis" | "with redis",
): void {
  for (const runtime of allRuntimes()) {
    // Bun has a client of its own.
    const expected = what === "with redis" || runtime.name === "bun"
      ? /^LockException: .*ECONNREFUSED/
      : /^LockException: .*npm install redis/;
    for (const name of ["redis.mjs", "redis.cjs"]) {
      checkProgram(runtime, project, name, expected, what);
    }
  }
}

function allRuntimes(): Runtime[] {
  return [...runtimes(), ...node24()];
}

function checkProgram(
  { name, command }: Runtime,
  project: string,
  program: string,
  expected: RegExp | string,
  what = "",
): void {
  check(
    `the npm package ${what}, ${program}, ${name}`.replace(" ,", ","),
    project,
    [...command, program],
    (stdout, stderr) =>
      stderr === "" &&
      (typeof expected === "string"
        ? stdout === expected
        : expected.test(stdout)),
  );
}
