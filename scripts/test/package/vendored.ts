/**
 * Checks `npm run vendor`: on every runtime, one process waits for the lock of
 * another one, and gets it. Both load the library from a folder that contains
 * that one file.
 */

import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, extname, join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { node24, root, runtimes, systemNode } from "../../setup/mod.ts";
import { report } from "./check.ts";

type Command = readonly [string, ...string[]];

/** A check: its name, and what throws if something is wrong. */
type Check = readonly [name: string, run: () => Promise<void> | void];

const TIMEOUT_MS = 60_000;

const ROLES = `
const [role, how] = process.argv.slice(2);
// Whether the kernel wakes this process. A waiter that polls is fast, too.
const hasInotify = () =>
  fs.readdirSync("/proc/self/fd").some((name) => {
    try {
      const target = fs.readlinkSync("/proc/self/fd/" + name);
      return target === "anon_inode:inotify";
    } catch {
      return false; // The descriptor of the folder itself.
    }
  });
const roles = {
  async hold() {
    const lock = new Lock("a.lock");
    await lock.acquire();
    console.log("held");
    await new Promise((resolve) => process.stdin.once("data", resolve));
    fs.writeFileSync("a.lock", "handed over");
    await lock.release();
    process.stdin.destroy();
  },
  async wait() {
    const lock = new Lock("a.lock", {
      mode: "a+",
      timeout: Infinity,
      onWait: () =>
        console.log(how === "polls" || hasInotify() ? "waiting" : "no inotify"),
    });
    await lock.acquire();
    console.log(fs.readFileSync("a.lock", "utf8"));
    await lock.release();
  },
  async redis() {
    const lock = new RedisLock("a", { url: "redis://127.0.0.1:1", timeout: 0 });
    await lock.acquire().catch((error) => console.log(error.message));
  },
};
roles[role]();
`;

/** The start of the program, which loads the library. */
function program(file: string): string {
  const names = "{ Lock, RedisLock }";
  const path = `./lib/${basename(file)}`;
  const head = extname(file) === ".cjs"
    ? `const ${names} = require("${path}");
       const fs = require("node:fs"), process = require("node:process");`
    : `import ${names} from "${path}";
       import fs from "node:fs";
       import process from "node:process";`;
  return `${head}\n${ROLES}`;
}

/** Writes the file in each of its forms, and uses it on each runtime. */
export async function checkVendored(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "portalock vendored-"));
  try {
    for (const [name, run] of checks(folder)) {
      try {
        await run();
        report(`npm run vendor, ${name}`, "");
      } catch (error) {
        report(`npm run vendor, ${name}`, `${(error as Error).stack}`);
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function* checks(folder: string): Generator<Check> {
  yield ["wrong arguments", () => refusesWrongArguments(folder)];
  for (const extension of ["mjs", "js", "cjs"]) {
    const file = join(folder, `portalock.${extension}`);
    yield [extension, () => vendor(file)];
    const project = join(folder, extension);
    yield [`${extension}, the project`, () => makeProject(project, file)];
    const main = join(project, `main.${extension}`);
    for (const { name, command, polls } of commands()) {
      yield [`${extension}, ${name}`, () => handOver(command, main, polls)];
      yield [
        `${extension}, without redis, ${name}`,
        // Bun has a client of its own.
        () =>
          prints(
            command,
            main,
            name === "bun" ? /ECONNREFUSED/ : /npm install redis/,
          ),
      ];
    }
    yield [`${extension}, redis`, () => installRedis(project)];
    for (const { name, command } of commands()) {
      yield [
        `${extension}, with redis, ${name}`,
        () => prints(command, main, /ECONNREFUSED/),
      ];
    }
  }
  yield ["types", () => typesAreRight(folder)];
}

/** The runtimes; of Deno also one without FFI, whose waiters poll. */
function commands(): { name: string; command: Command; polls: boolean }[] {
  return [...runtimes(), ...node24()].flatMap(({ name, command }) => {
    const polls = process.platform !== "linux";
    const [program, ...args] = command;
    if (name === "bun") {
      // Bun would download the package redis.
      return [{ name, command: [...command, "--no-install"], polls }];
    }
    if (name !== "deno") return [{ name, command: [program], polls }];
    const restricted = args.flatMap((argument) =>
      argument === "-A"
        ? ["--allow-read", "--allow-write", "--allow-net", "--allow-env"]
        : [argument]
    );
    return [
      { name, command, polls },
      {
        name: "deno without FFI",
        command: [program, ...restricted, "--no-prompt"],
        polls: true,
      },
    ];
  });
}

function run(args: readonly string[]): ReturnType<typeof runVendor> {
  const result = runVendor(args);
  assert.equal(result.status, 0, result.stderr);
  return result;
}

function runVendor(args: readonly string[]) {
  const script = join(root, "scripts", "vendor.mjs");
  return spawnSync(systemNode(), [script, ...args], { encoding: "utf8" });
}

function vendor(file: string): void {
  run([file]);
  // A copy may be replaced by a newer one.
  const text = readFileSync(file, "utf8");
  run([file]);
  assert.equal(readFileSync(file, "utf8"), text);
  const { version } = JSON.parse(
    readFileSync(join(root, "package.json"), "utf8"),
  );
  assert.ok(text.startsWith(`/*! portalock ${version}, https://`));
  assert.ok(text.includes("THIS SOFTWARE IS PROVIDED"), "the license");
  assert.ok(!text.includes("jsr:@x/portalock"), "the package in an example");
}

function refusesWrongArguments(folder: string): void {
  const other = join(folder, "other.mjs");
  writeFileSync(other, "// Not a copy.\n");
  mkdirSync(join(folder, "folder.mjs"));
  const before = readdirSync(folder);
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [["--minify"], /--minify/],
    [[join(folder, "a.mjs"), "b"], /unexpected argument "b"/],
    [[join(folder, "a.ts")], /must end with \.mjs, \.js, \.cjs, not/],
    [[join(folder, "a")], /must end with/],
    [[other], /exists and is not a copy of portalock/],
    [[join(folder, "folder.mjs")], /is not a file/],
  ];
  for (const [args, message] of cases) {
    const { status, stderr } = runVendor(args);
    assert.match(stderr, message);
    assert.equal(status, 2, stderr);
  }
  assert.match(run(["--help"]).stdout, /OUTPUT/);
  assert.deepEqual(readdirSync(folder), before);
  assert.equal(readFileSync(other, "utf8"), "// Not a copy.\n");
}

/** Copies the file into an empty folder of its own. */
function makeProject(project: string, file: string): void {
  mkdirSync(join(project, "lib"), { recursive: true });
  writeFileSync(join(project, "lib", basename(file)), readFileSync(file));
  writeFileSync(join(project, `main${extname(file)}`), program(file));
}

function installRedis(project: string): void {
  symlinkSync(join(root, "node_modules"), join(project, "node_modules"), "dir");
  // Deno and Node find neither the type of ".js" nor the dependency otherwise.
  writeFileSync(
    join(project, "package.json"),
    JSON.stringify({ type: "module", dependencies: { redis: "*" } }),
  );
}

async function handOver(
  command: Command,
  main: string,
  polls: boolean,
): Promise<void> {
  const how = polls ? "polls" : "woken";
  const cwd = join(main, "..");
  const children = ["hold", "wait"].map((role) => () =>
    start([...command, main, role, how], cwd)
  );
  const [startHolder, startWaiter] = children;
  const holder = startHolder!();
  let waiter: Child | undefined;
  try {
    assert.equal(await holder.line(), "held");
    waiter = startWaiter!();
    assert.equal(await waiter.line(), "waiting");
    holder.process.stdin?.write("release\n");
    assert.equal(await waiter.line(), "handed over");
    await holder.ended();
    await waiter.ended();
  } finally {
    for (const child of [holder, waiter]) child?.process.kill("SIGKILL");
  }
  const left = readdirSync(cwd).filter((name) => name !== "node_modules");
  rmSync(join(cwd, "a.lock"));
  assert.deepEqual(left.sort(), ["a.lock", "lib", basename(main)].sort());
  assert.equal(readdirSync(join(cwd, "lib")).length, 1);
}

/** A process that writes lines. */
interface Child {
  readonly process: ChildProcess;
  /** Resolves to the next line, or to everything on standard error. */
  line(): Promise<string>;
  /** @throws {assert.AssertionError} If it fails or warns. */
  ended(): Promise<void>;
}

function start([program, ...args]: Command, cwd: string): Child {
  const child = spawn(program, args, { cwd, timeout: TIMEOUT_MS });
  const lines = createInterface({ input: child.stdout })
    [Symbol.asyncIterator]();
  let errors = "";
  child.stderr.on("data", (data) => errors += data);
  const closed = once(child, "close");
  return {
    process: child,
    async line() {
      const { done, value } = await lines.next();
      if (!done) return value;
      await closed;
      return errors;
    },
    async ended() {
      const [status] = await closed;
      assert.deepEqual([status, errors], [0, ""]);
    },
  };
}

function prints(
  [program, ...args]: Command,
  main: string,
  expected: RegExp,
): void {
  const { stdout, stderr } = spawnSync(program, [...args, main, "redis"], {
    cwd: join(main, ".."),
    encoding: "utf8",
    timeout: TIMEOUT_MS,
  });
  assert.match(stdout + stderr, expected);
}

/** Checks the declarations of all three files, without the package redis. */
function typesAreRight(folder: string): void {
  const uses = [["mts", "mjs"], ["ts", "js"], ["cts", "cjs"]].map(
    ([extension, library]) => {
      const name = `use.${extension}`;
      writeFileSync(
        join(folder, name),
        `import { Lock, RedisLock } from "./portalock.${library}";
         new Lock("a.lock", { mode: "a+" }).acquireSync().statSync().size;
         new RedisLock("a", { url: "redis://127.0.0.1" });
         // @ts-expect-error: not a mode.
         new Lock("a.lock", { mode: "rw" });`,
      );
      return name;
    },
  );
  const types = join(folder, "types");
  mkdirSync(types);
  symlinkSync(
    join(root, "node_modules", "@types", "node"),
    join(types, "node"),
    "dir",
  );
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
  writeFileSync(
    join(folder, "tsconfig.json"),
    JSON.stringify({
      compilerOptions: {
        module: "NodeNext",
        target: "ES2022",
        lib: ["ES2022", "ESNext.Disposable"],
        typeRoots: ["types"],
        types: ["node"],
        strict: true,
        noEmit: true,
      },
      files: uses,
    }),
  );
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  const { status, stdout } = spawnSync(systemNode(), [tsc, "-p", folder], {
    encoding: "utf8",
  });
  assert.equal(status, 0, stdout);
  assert.ok(!existsSync(join(folder, "node_modules")));
}
