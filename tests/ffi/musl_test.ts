import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { unpack } from "../../ffi/addon/unpack.ts";
import { Lock } from "../../mod.ts";
import { compileC } from "../support/compile.ts";
import { fixtureCommand, testEnv } from "../support/env.ts";
import { LockProcess, runScript } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

for (const locker of ["flock", "ofd"] as const) {
  test(
    `musl: a program for this C library excludes others, waits and is woken, with "${locker}"`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      await using worker = LockProcess.start(testEnv.musl!);
      await worker.call("disablePolling", 0);
      const options = { locker, mode: "a+", timeout: 60_000 } as const;
      const lock = new Lock(path, options);

      for (const form of ["acquire", "acquireSync"]) {
        const file = await lock.acquire();
        assert.equal(await worker.call("tryAcquire", path, options), false);
        const waiting = worker.call(form, path, options);
        await worker.untilAsleep();
        await file.close();
        await waiting;
        assert.equal(await lock.tryAcquire(), null);
        await worker.call("release");
      }
      await worker.call("acquire", path, options);
      await worker.kill();
      await lock.run(() => {});
    },
    "a Bun for musl",
    "file descriptors",
  );
}

test(
  "musl: a worker that is terminated releases every lock, and is refused more than that",
  async () => {
    using dir = tempDir();
    const { code, stdout, stderr } = await runScript([
      ...fixtureCommand(testEnv.musl!, "end_with_lock"),
      ...["thread with many locks", "Lock", join(dir.path, "a")],
    ]);
    assert.match(stdout, /^0 stay locked, [1-9]\d* refused\n$/, stderr);
    assert.equal(code, 0, stderr);
  },
  "a Bun for musl",
);

test(
  "musl: the addon of Node is loaded by this C library, and calls it",
  async () => {
    using dir = tempDir();
    using host = compileC("addon_host.c", "musl-gcc", "-rdynamic");
    const addon = join(dir.path, "addon.node");
    fs.writeFileSync(addon, unpack(`linux-${process.arch}`)!);
    const { stdout, stderr } = await runScript([host.path, addon]);
    assert.equal(stderr, "");
    // abs(-7), close(-1), and EBADF.
    assert.equal(stdout, "7 -1 9\n");
  },
  "musl-gcc(1)",
);
