/** Which client a URL uses, depending on what is installed. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { runtimes, testEnv } from "../support/env.ts";
import type { TestRuntime } from "../support/env.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

/** Runs a program beside a copy of the library, and returns what it prints. */
function run(
  { command, directory, extension }: TestRuntime,
  dependencies: Readonly<Record<string, string>>,
  options: object,
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
  const manifest = {
    type: "module",
    dependencies: Object.fromEntries(
      Object.keys(dependencies).map((name) => [name, "*"]),
    ),
  };
  fs.writeFileSync(join(dir.path, "package.json"), JSON.stringify(manifest));
  const main = join(dir.path, `main${extension}`);
  fs.writeFileSync(
    main,
    `import { RedisLock } from "./src/redis/mod${extension}";
    const lock = new RedisLock("a", ${JSON.stringify(options)});
    lock.tryAcquire().catch((error) =>
      console.log(error.name, error.code, error.message)
    );`,
  );
  const [program = "", ...flags] = command;
  const { stdout, stderr } = spawnSync(program, [...flags, main], {
    encoding: "utf8",
    cwd: dir.path,
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

  test(`Redis packages: without any, a URL ${isBun ? "uses Bun's own" : "names both"}, on ${name}`, () => {
    assert.match(
      run(runtime, {}, { url }),
      isBun
        ? /^LockException ECONNREFUSED Cannot lock a: .*ECONNREFUSED/
        : /^LockException \w*MODULE_NOT_FOUND Cannot lock a: neither redis nor ioredis is installed; install one \(npm install redis@6\), or pass a client \(waited/,
    );
  });

  test(`Redis packages: without redis, a URL uses ioredis, on ${name}`, () => {
    assert.match(
      run(runtime, { ioredis: "ioredis" }, { url }),
      /^LockException ECONNREFUSED Cannot lock a: connect ECONNREFUSED/,
    );
    // These options are those of another package.
    assert.match(
      run(runtime, { ioredis: "ioredis" }, {
        url,
        clientOptions: { socket: {} },
      }),
      /^LockException EINVAL Cannot lock a: clientOptions\.socket is an option of node-redis, which is not installed; pass host and port for ioredis/,
    );
  });

  test(`Redis packages: a package that is too old is refused with the remedy, on ${name}`, () => {
    assert.match(
      run(runtime, { redis: "redis-4" }, { url }),
      /^LockUnsupported ERR_LOCK_UNSUPPORTED Cannot lock a: the installed redis package is node-redis 4 or older, .*npm install redis@6/,
    );
    assert.match(
      run(runtime, { ioredis: "ioredis-4" }, { url }),
      /^LockUnsupported ERR_LOCK_UNSUPPORTED Cannot lock a: the installed ioredis package is ioredis 4 or older; .*npm install ioredis@6/,
    );
  });

  test(`Redis packages: a URL uses redis if both are installed, on ${name}`, () => {
    const options = { url, clientOptions: { socket: {} } };
    assert.match(
      run(runtime, { redis: "redis", ioredis: "ioredis" }, options),
      /^LockException ECONNREFUSED Cannot lock a: .*ECONNREFUSED/,
    );
  });
}
