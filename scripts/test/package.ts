/**
 * Uses the package as a stranger would: installs the tarball into an empty
 * project and locks with it, and rehearses publishing it to JSR.
 */

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { npm, root, runtimes, tarball } from "./setup.mjs";

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
  // @ts-expect-error: it is no mode.
  new Lock("a.lock", { mode: "rw" });
  const client = createClient({ url: "redis://127.0.0.1:1", RESP: 2 });
  const lease: RedisLease = await new RedisLock("a", { client }).acquire();
  const token: bigint = lease.fencingToken;
  new RedisSemaphore("a", 2, { client: createCluster({ rootNodes: [] }) });
  export { size, token };
`;

/** Runs every check and returns how many passed, failed and were skipped. */
export function checkPackage() {
  const project = mkdtempSync(join(tmpdir(), "portalock project-"));
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const check = (name, command, args, expected) => {
    const { status, stdout, stderr } = spawnSync(command, args, {
      cwd: name.includes("JSR") ? root : project,
      encoding: "utf8",
    });
    const good = status === 0 && expected(stdout, stderr);
    counts[good ? "passed" : "failed"]++;
    console.log(`${good ? "ok" : "FAILED"} ${name}`);
    if (!good) console.log(`${stdout}${stderr}`);
  };
  try {
    prepare(project);
    const locks = (stdout, stderr) => stdout === "number\n" && stderr === "";
    for (const { name, command } of runtimes()) {
      if (name === "deno") continue;
      const [program] = command;
      for (const script of ["module.mjs", "common.cjs"]) {
        check(`the npm package, ${script}, ${name}`, program, [script], locks);
      }
      check(
        `the npm package without redis, ${name}`,
        program,
        ["redis.mjs"],
        (stdout) => /^LockException: .*npm install redis/.test(stdout),
      );
    }
    install(project, "redis");
    for (const { name, command } of runtimes()) {
      if (name === "deno") continue;
      check(
        `the npm package with redis, ${name}`,
        command[0],
        ["redis.mjs"],
        (stdout) => /^LockException: .*ECONNREFUSED/.test(stdout),
      );
    }
    const typescript = join(root, "node_modules", "typescript", "bin", "tsc");
    check(
      "the npm package's types",
      process.execPath,
      [typescript, "-p", "."],
      () => true,
    );
    const deno = runtimes().find(({ name }) => name === "deno").command[0];
    check(
      "publishing to JSR, rehearsed, without slow types",
      deno,
      ["publish", "--dry-run", "--allow-dirty"],
      (_, stderr) => !/slow-types|warning/i.test(stderr),
    );
  } finally {
    rmSync(project, { recursive: true, force: true });
  }
  return counts;
}

function prepare(project) {
  const write = (name, content) => writeFileSync(join(project, name), content);
  write("package.json", `{ "private": true, "type": "module" }`);
  write("module.mjs", MODULE);
  write("common.cjs", COMMON);
  write("redis.mjs", REDIS);
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
  install(project, "koffi", "@types/node");
}

/** Installs the package, and others as it is developed with them. */
function install(project, ...names) {
  const { devDependencies } = JSON.parse(
    readFileSync(join(root, "package.json"), "utf8"),
  );
  const wanted = names.map((name) => `${name}@${devDependencies[name]}`);
  npm(["install", "--prefer-offline", "--no-audit", tarball(), ...wanted], {
    cwd: project,
  });
}
