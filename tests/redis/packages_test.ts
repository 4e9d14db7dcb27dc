/** Which client a URL uses, depending on what is installed. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { denoWith, runtimes, testEnv } from "../support/env.ts";
import type { TestRuntime } from "../support/env.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

/**
 * Runs a program beside a copy of the library, and returns what it prints.
 *
 * @param dependencies The names of packages, and what is installed as them.
 * @param broken The name of a package that throws when it is imported.
 */
function run(
  { command, directory, extension }: TestRuntime,
  dependencies: Readonly<Record<string, string>>,
  options: object,
  broken?: string,
): string {
  using dir = tempDir();
  for (const folder of ["src", "ffi"]) {
    fs.cpSync(join(directory, folder), join(dir.path, folder), {
      recursive: true,
    });
  }
  fs.mkdirSync(join(dir.path, "node_modules"));
  for (const [name, installed] of Object.entries(dependencies)) {
    const target = join(testEnv.root, "node_modules", installed);
    fs.symlinkSync(target, join(dir.path, "node_modules", name), "junction");
  }
  if (broken !== undefined) {
    const folder = join(dir.path, "node_modules", broken);
    fs.mkdirSync(folder);
    fs.writeFileSync(
      join(folder, "package.json"),
      JSON.stringify({ name: broken, version: "9.0.0", main: "main.js" }),
    );
    fs.writeFileSync(join(folder, "main.js"), `throw new Error("torn");`);
  }
  const names = [...Object.keys(dependencies), ...broken ? [broken] : []];
  const manifest = {
    type: "module",
    dependencies: Object.fromEntries(names.map((name) => [name, "*"])),
  };
  fs.writeFileSync(join(dir.path, "package.json"), JSON.stringify(manifest));
  const main = join(dir.path, `main${extension}`);
  fs.writeFileSync(
    main,
    `import { RedisLock } from "./src/redis/mod${extension}";
    const lock = new RedisLock("a", ${
      JSON.stringify({ timeout: 0, ...options })
    });
    lock.acquire().catch((error) =>
      console.log(error.name, error.code, error.message)
    );`,
  );
  const [program = "", ...flags] = command;
  const { stdout, stderr } = spawnSync(program, [...flags, main], {
    encoding: "utf8",
    cwd: dir.path,
    timeout: 60_000,
  });
  assert.equal(stderr, "");
  return stdout;
}

/** Nothing listens there. */
const url = "redis://127.0.0.1:1";

for (const runtime of runtimes) {
  const { name } = runtime;
  const isBun = name.startsWith("bun");
  // Bun installs what is missing, unless there is a folder node_modules.

  test(
    `Redis packages: without any, a URL ${
      isBun ? "uses Bun's own" : "names both"
    }, on ${name}`,
    () => {
      assert.match(
        run(runtime, {}, { url }),
        isBun
          ? /^LockException ECONNREFUSED Cannot lock a: .*ECONNREFUSED/
          : /^LockException \w*MODULE_NOT_FOUND Cannot lock a: neither redis nor ioredis is installed; install one \(npm install redis@6\), or pass a client \(waited/,
      );
    },
    "symbolic links",
  );

  test(`Redis packages: without redis, a URL uses ioredis, on ${name}`, () => {
    assert.match(
      run(runtime, { ioredis: "ioredis" }, { url }),
      /^LockException ECONNREFUSED Cannot lock a: connect ECONNREFUSED/,
    );
  }, "symbolic links");

  test(
    `Redis packages: options of another package are refused, on ${name}`,
    () => {
      const wrong: [library: string, options: object, message: RegExp][] = [
        ["ioredis", { socket: {} }, /\.socket .* of node-redis, .* not inst/],
        ["ioredis", { url }, /\.url .* of node-redis, .* not installed/],
        ["redis", { host: "a" }, /\.host .* of ioredis, .* is installed/],
        ["redis", { tls: {} }, /\.tls .* of ioredis, .* is installed/],
      ];
      for (const [library, clientOptions, message] of wrong) {
        const said = run(runtime, { [library]: library }, { clientOptions });
        assert.match(said, /^LockException EINVAL Cannot lock a: clientOpt/);
        assert.match(said, message);
      }
    },
    "symbolic links",
  );

  test(
    `Redis packages: a package that is too old is refused with the remedy, on ${name}`,
    () => {
      assert.match(
        run(runtime, { redis: "redis-4" }, { url }),
        /^LockUnsupported ERR_LOCK_UNSUPPORTED Cannot lock a: the installed redis package is node-redis 4 or older, .*npm install redis@6/,
      );
      assert.match(
        run(runtime, { ioredis: "ioredis-4" }, { url }),
        /^LockUnsupported ERR_LOCK_UNSUPPORTED Cannot lock a: the installed ioredis package is ioredis 4 or older; .*npm install ioredis@6/,
      );
    },
    "symbolic links",
  );

  test(
    `Redis packages: a package that cannot be imported is named with the reason, on ${name}`,
    () => {
      for (const broken of ["redis", "ioredis"]) {
        const others: Record<string, string> = broken === "redis"
          ? { ioredis: "ioredis" }
          : {};
        const pattern =
          `^LockUnsupported ERR_LOCK_UNSUPPORTED Cannot lock a: the installed ${broken} package cannot be imported: torn`;
        assert.match(
          run(runtime, others, { url }, broken),
          new RegExp(pattern),
        );
      }
    },
    "symbolic links",
  );

  test(
    `Redis packages: a URL uses redis if both are installed, on ${name}`,
    () => {
      const options = { url, clientOptions: { socket: {} } };
      assert.match(
        run(runtime, { redis: "redis", ioredis: "ioredis" }, options),
        /^LockException ECONNREFUSED Cannot lock a: .*ECONNREFUSED/,
      );
    },
    "symbolic links",
  );
}

if (runtimes.some(({ name }) => name === "deno")) {
  test("Redis packages: a missing permission of Deno is named at once", () => {
    const options = { url, timeout: 3_600_000 };
    assert.match(
      run(denoWith("--allow-env"), { redis: "redis" }, options),
      /^LockException \w+ Cannot lock a: Requires net access to "127\.0\.0\.1:1".*--allow-net/,
    );
    assert.match(
      run(denoWith("--allow-net"), { ioredis: "ioredis" }, options),
      /^LockUnsupported .*the installed ioredis package cannot be imported: Requires env access.*--allow-env/,
    );
  }, "symbolic links");
}
