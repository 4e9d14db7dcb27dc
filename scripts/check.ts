/** Everything that is not a test and must hold: form, types, documentation. */

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { defaultRedis, installDebianPackages } from "./debian.mjs";
import { filesBelow, root, runtimes, setUp } from "./setup.mjs";

setUp();
installDebianPackages();
const deno = runtimes().find(({ name }) => name === "deno").command[0];
// Where examples may leave their files.
const elsewhere = mkdtempSync(join(tmpdir(), "portalock examples-"));

const examples = [
  join(root, "mod.ts"),
  ...filesBelow(join(root, "src")),
  ...filesBelow(root, (path) => path.endsWith(".md")),
];
const usesRedis = (path) =>
  readFileSync(path, "utf8").includes("portalock/redis");
const redis = await defaultRedis();
if (redis === null) console.log("SKIPPED examples with Redis: none is here");

const CHECKS = [
  ["format", root, ["fmt", "--check"]],
  ["lint", root, ["lint"]],
  ["types", root, ["check", "mod.ts", "src/redis/mod.ts", "tests"]],
  ["documentation of everything public", root, [
    "doc",
    "--lint",
    "mod.ts",
    "src/redis/mod.ts",
  ]],
  ["examples in documentation", elsewhere, [
    "test",
    "-A",
    "--doc",
    `--config=${join(root, "deno.json")}`,
    `--import-map=${join(root, "tests", "documentation.import_map.json")}`,
    ...examples.filter((path) => redis !== null || !usesRedis(path)),
  ]],
];

let failed = 0;
for (const [name, cwd, args] of CHECKS) {
  const { status, stdout, stderr } = spawnSync(deno, args, {
    cwd,
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1" },
  });
  console.log(`${status === 0 ? "ok" : "FAILED"} ${name}`);
  if (status !== 0) {
    failed++;
    console.log(stdout + stderr);
  }
}
redis?.kill();
rmSync(elsewhere, { recursive: true });
const passed = CHECKS.length - failed;
console.log(
  `\n${passed} passed, ${failed} failed, ${redis === null ? 1 : 0} skipped`,
);
process.exitCode = failed > 0 ? 1 : 0;
