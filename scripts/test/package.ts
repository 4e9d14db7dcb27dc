/**
 * Checks the npm package: installs the tarball into an empty project, locks
 * with it on every runtime, and does a dry run of publishing to JSR. Then checks
 * the single file of `npm run vendor`.
 */

import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import process from "node:process";
import {
  filesBelow,
  node24,
  npm,
  root,
  runtimes,
  systemNode,
  tarball,
} from "../setup/mod.ts";
import { checkVendored } from "./vendored.ts";

const MODULE = `
  import { Lock, LOCK_EX } from "@x/portalock";
  const lock = new Lock("a.lock", { flags: LOCK_EX });
  console.log(await lock.run((file) => typeof file.fd));
`;
const COMMON = `
  const { Lock } = require("@x/portalock");
  using_(new Lock("a.lock").acquireSync());
  function using_(file) { console.log(typeof file.fd); file.closeSync(); }
`;
const REDIS = `
  import { RedisLock } from "@x/portalock/redis";
  const url = "redis://127.0.0.1:1";
  await new RedisLock("a", { url, timeout: 0 }).acquire().catch((error) =>
    console.log(error.name + ": " + error.message)
  );
`;
const TYPED = `
  import { Lock, type LockedFile } from "@x/portalock";
  import { RedisLock, RedisSemaphore } from "@x/portalock/redis";
  import type { RedisLease } from "@x/portalock/redis";
  import { createClient, createCluster } from "redis";
  const file: LockedFile = new Lock("a.lock", { mode: "a+" }).acquireSync();
  const size: number = file.statSync().size;
  file.closeSync();
  // @ts-expect-error: not a mode.
  new Lock("a.lock", { mode: "rw" });
  const client = createClient({ url: "redis://127.0.0.1:1", RESP: 2 });
  const lease: RedisLease = await new RedisLock("a", { client }).acquire();
  const token: bigint = lease.fencingToken;
  new RedisSemaphore("a", 2, { client: createCluster({ rootNodes: [] }) });
  export { size, token };
`;

/** Prints which of the built-ins that take long to load an import loads. */
const LOADED = `
  await import("@x/portalock");
  const slow = ["crypto", "net", "tty", "worker_threads", "zlib"];
  const list = globalThis.process.moduleLoadList;
  console.log(slow.filter((name) => list.includes("NativeModule " + name)));
`;

/** The files of `dist/`, less the source maps and the native code. */
const FILES = ["mod", "redis", "shared"].flatMap((name) =>
  ["cjs", "d.cts", "d.ts", "js"].map((extension) => `${name}.${extension}`)
);

/** Whether the output of a check is right. */
type Expected = (stdout: string, stderr: string) => boolean;

const counts = { passed: 0, failed: 0 };

function check(
  name: string,
  cwd: string,
  [program, ...args]: readonly [string, ...string[]],
  expected: Expected,
): void {
  const { status, stdout, stderr } = spawnSync(program, args, {
    cwd,
    encoding: "utf8",
  });
  const isGood = status === 0 && expected(stdout, stderr);
  report(name, isGood ? "" : stdout + stderr || `status ${status}`);
}

function report(name: string, wrong: string): void {
  counts[wrong === "" ? "passed" : "failed"]++;
  console.log(`${wrong === "" ? "ok" : "FAILED"} ${name}`);
  if (wrong !== "") console.log(wrong);
}

/** Returns the links to files that a folder of documents does not contain. */
function brokenLinks(folder: string): string {
  const documents = filesBelow(folder, (path) => path.endsWith(".md"));
  const broken = documents.flatMap((document) =>
    [...readFileSync(document, "utf8").matchAll(/\]\(([^)#]+)[^)]*\)/g)]
      .map(([, target = ""]) => target)
      .filter((target) => !/^https?:/.test(target))
      .filter((target) => !existsSync(join(dirname(document), target)))
      .map((target) => `${relative(folder, document)}: ${target}`)
  );
  return documents.length > 1 ? broken.join("\n") : "no documents";
}

function checkAll(project: string): void {
  prepare(project);
  const programs = [...runtimes(), ...node24()]
    .filter(({ name }) => name !== "deno")
    .map(({ name, command: [program] }) => ({ name, program }));
  const locks: Expected = (stdout, stderr) =>
    stdout === "number\n" && stderr === "";
  for (const { name, program } of programs) {
    for (const script of ["module.mjs", "common.cjs"]) {
      const title = `the npm package, ${script}, ${name}`;
      check(title, project, [program, script], locks);
    }
    check(
      `the npm package without redis, ${name}`,
      project,
      [program, "redis.mjs"],
      (stdout) => /^LockException: .*npm install redis/.test(stdout),
    );
  }
  for (const { name, program } of programs) {
    if (name === "bun") continue;
    check(
      `the npm package loads few built-ins, ${name}`,
      project,
      [program, "loaded.mjs"],
      (stdout) => stdout === "[]\n",
    );
  }
  install(project, "redis");
  for (const { name, program } of programs) {
    check(
      `the npm package with redis, ${name}`,
      project,
      [program, "redis.mjs"],
      (stdout) => /^LockException: .*ECONNREFUSED/.test(stdout),
    );
  }
  const installed = join(project, "node_modules", "@x", "portalock");
  report("the npm package, links in its documents", brokenLinks(installed));
  const files = readdirSync(join(installed, "dist"))
    .filter((name) => !name.endsWith(".map") && name !== "native");
  const isComplete = files.sort().join() === FILES.join();
  report("the npm package, files", isComplete ? "" : files.join());
  const typescript = join(root, "node_modules", "typescript", "bin", "tsc");
  check(
    "the npm package's types",
    project,
    [systemNode(), typescript, "-p", "."],
    () => true,
  );
  const deno = runtimes().find(({ name }) => name === "deno");
  if (deno === undefined) return;
  check(
    "publishing to JSR, dry run, without slow types",
    root,
    [deno.command[0], "publish", "--dry-run", "--allow-dirty"],
    (_, stderr) => !/slow-types|warning/i.test(stderr),
  );
}

function prepare(project: string): void {
  const write = (name: string, content: string) =>
    writeFileSync(join(project, name), content);
  write("package.json", `{ "private": true, "type": "module" }`);
  write("module.mjs", MODULE);
  write("common.cjs", COMMON);
  write("redis.mjs", REDIS);
  write("loaded.mjs", LOADED);
  write("typed.ts", TYPED);
  write(
    "tsconfig.json",
    JSON.stringify({
      compilerOptions: {
        module: "NodeNext",
        target: "ES2022",
        lib: ["ES2022", "ESNext.Disposable"],
        types: ["node"],
        strict: true,
        noEmit: true,
      },
      files: ["typed.ts"],
    }),
  );
  install(project, "@types/node");
}

/** Installs the package, and dependencies in the versions of this checkout. */
function install(project: string, ...names: string[]): void {
  const { devDependencies } = JSON.parse(
    readFileSync(join(root, "package.json"), "utf8"),
  );
  const wanted = names.map((name) => `${name}@${devDependencies[name]}`);
  npm(["install", "--prefer-offline", "--no-audit", tarball(), ...wanted], {
    cwd: project,
  });
}

const project = mkdtempSync(join(tmpdir(), "portalock project-"));
try {
  checkAll(project);
} finally {
  rmSync(project, { recursive: true, force: true });
}
await checkVendored(report);
console.log(
  `\n${counts.passed} passed, ${counts.failed} failed, 0 skipped in the package`,
);
process.exitCode = counts.failed > 0 ? 1 : 0;
