/** Locks of a program that `bun --hot` evaluates again in the same process. */

import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { runtimes } from "../support/env.ts";
import { LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

/**
 * Runs a program with `bun --hot`, and evaluates it again once.
 *
 * @param program Its body, which uses `classes` and `path`.
 * @returns What both evaluations report: `null`, or the error.
 */
async function evaluateTwice(program: string) {
  using dir = tempDir();
  const bun = runtimes.find(({ name }) => name === "bun")!;
  const file = join(dir.path, "program.mjs");
  const source = `
    import * as classes from ${
    JSON.stringify(
      pathToFileURL(join(bun.directory, `mod${bun.extension}`)).href,
    )
  };
    const path = ${JSON.stringify(join(dir.path, "a"))};
    let result = null;
    try { ${program} } catch (error) {
      result = { name: error.name, code: error.code, message: error.message };
    }
    console.log(JSON.stringify(result));
    process.stdin.on("end", () => process.exit()).resume();
  `;
  fs.writeFileSync(file, source);
  // On Windows, Bun watches only what is below the working directory.
  const cwd = dir.path;
  await using child = new LockProcess([...bun.command, "--hot", file], { cwd });
  const results = [JSON.parse(await child.readLine())];
  fs.writeFileSync(file, `${source}// changed\n`);
  results.push(JSON.parse(await child.readLine()));
  return results;
}

for (const name of ["Lock", "PidFileLock"]) {
  for (
    const acquire of [
      "await lock.acquire({ timeout: 0 })",
      "lock.acquireSync()",
    ]
  ) {
    test(
      `a ${name} of the code before a reload stays held, and ${acquire} says what to do`,
      async () => {
        const [first, second] = await evaluateTwice(
          // Its leak warning is another test's.
          `const lock = new classes.${name}(path);
           (globalThis.all ??= []).push(lock);
           ${acquire};`,
        );
        assert.equal(first, null);
        assert.equal(second.name, "AlreadyLocked");
        assert.match(
          second.message,
          /a reload by --hot keeps the locks of the code before it: keep the lock object in globalThis, and use it again$/,
        );
      },
      "Bun",
      "names of lock holders",
    );
  }

  test(
    `a ${name} in globalThis stays held over a reload, and is used again`,
    async () => {
      const results = await evaluateTwice(
        `const lock = globalThis.lock ??= new classes.${name}(path);
         if (!lock.locked) await lock.acquire();
         if (await new classes.${name}(path).tryAcquire() !== null) throw name;`,
      );
      assert.deepEqual(results, [null, null]);
    },
    "Bun",
  );
}
