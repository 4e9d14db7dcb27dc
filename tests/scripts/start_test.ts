import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { root, systemNode } from "../../scripts/setup/mod.ts";

/** Runs `scripts/NAME.mjs` on the Node that runs npm. */
function run(name: string, ...args: string[]) {
  return spawnSync(systemNode(), [join("scripts", `${name}.mjs`), ...args], {
    cwd: root,
    encoding: "utf8",
  });
}

test("a script that is started from a bare Node gets its arguments and returns its status", () => {
  const folder = mkdtempSync(join(tmpdir(), "portalock scripts-"));
  try {
    const [good, bad] = [join(folder, "good.md"), join(folder, "bad.md")];
    writeFileSync(good, "A task waits.\n");
    // Split, so that the check of this file does not find it.
    writeFileSync(bad, `A task waits\nin ${"vain"}.\n`);
    assert.equal(run("prose", good).status, 0);
    const { status, stdout } = run("prose", good, bad);
    assert.equal(status, 1);
    assert.match(stdout, /bad\.md:2: in vain -> /);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("wrong arguments of the test script are errors before a test starts", () => {
  const unknownFile = run("test", "lok_test");
  assert.equal(unknownFile.status, 1);
  assert.match(unknownFile.stderr, /^test: Cannot run "lok_test": .*lock_test/);
  const unknownRuntime = run("test", "--only=bun,nod");
  assert.equal(unknownRuntime.status, 1);
  assert.match(unknownRuntime.stderr, /^test: Cannot run on nod: expected /);
  const unknownOption = run("test", "--jbos=2");
  assert.equal(unknownOption.status, 2);
  assert.match(unknownOption.stderr, /--jbos/);
});
