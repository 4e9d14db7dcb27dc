/**
 * Checks the npm package: installs the tarball into an empty project, loads it
 * on every runtime, compiles against it, and does a dry run of publishing to
 * JSR. Then checks the single file of `npm run vendor`.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { filesBelow, npm, root, runtimes, tarball } from "../setup/mod.ts";
import { check, counts } from "./package/check.ts";
import { checkFiles, filePrograms } from "./package/files.ts";
import {
  checkCommand,
  checkLocks,
  checkRedis,
  lockPrograms,
} from "./package/programs.ts";
import { checkRedisTypes, checkTypes } from "./package/types.ts";
import { checkVendored } from "./package/vendored.ts";

function checkAll(project: string): void {
  writeFileSync(join(project, "package.json"), '{ "private": true }');
  const programs = { ...lockPrograms, ...filePrograms };
  for (const [name, content] of Object.entries(programs)) {
    writeFileSync(join(project, name), content);
  }
  install(project, "@types/node");
  checkFiles(project);
  checkLocks(project);
  checkCommand(project);
  checkRedis(project, "without redis");
  checkTypes(project);
  install(project, "redis", "ioredis");
  checkRedis(project, "with redis");
  checkRedisTypes(project);
  checkJsr();
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

/** The package for JSR must contain the documents that messages name. */
function checkJsr(): void {
  const deno = runtimes().find(({ name }) => name === "deno");
  if (deno === undefined) return;
  const documents = filesBelow(
    join(root, "docs"),
    (path) => path.endsWith(".md"),
  );
  check(
    "publishing to JSR, dry run, without slow types",
    root,
    [deno.command[0], "publish", "--dry-run", "--allow-dirty"],
    (_, stderr) =>
      !/slow-types|warning/i.test(stderr) &&
      documents.every((path) => stderr.includes(pathToFileURL(path).href)),
  );
}

const project = mkdtempSync(join(tmpdir(), "portalock project-"));
try {
  checkAll(project);
} finally {
  rmSync(project, { recursive: true, force: true });
}
await checkVendored();
console.log(
  `\n${counts.passed} passed, ${counts.failed} failed, 0 skipped in the package`,
);
process.exitCode = counts.failed > 0 ? 1 : 0;
