import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { Lock } from "../../mod.ts";
import { testEnv } from "../support/env.ts";
import { LockProcess } from "../support/processes.ts";
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
      const pid = await worker.call("pid");

      for (const form of ["acquire", "acquireSync"]) {
        const file = await lock.acquire();
        assert.equal(await worker.call("tryAcquire", path, options), false);
        const waiting = worker.call(form, path, options);
        await waitForInotify(pid as number);
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

/** Resolves when a process watches a file with inotify(7). */
async function waitForInotify(pid: number): Promise<void> {
  for (;;) {
    for (const fd of fs.readdirSync(`/proc/${pid}/fdinfo`)) {
      try {
        const info = fs.readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8");
        if (/^inotify wd:/m.test(info)) return;
      } catch {
        // The file descriptor was closed meanwhile.
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
