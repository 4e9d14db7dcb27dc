import { join } from "node:path";
import { Lock } from "../../mod.ts";
import { runtimes } from "../support/env.ts";
import { LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { disablePolling } from "../support/timers.ts";
import { at } from "../support/values.ts";

const FORMS = ["acquire", "acquireSync"] as const;

test(
  "a waiter misses no release, no matter when it comes",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    using _polling = disablePolling(0);
    const lock = new Lock(path, { timeout: Infinity });
    for (const runtime of runtimes) {
      await using processHolder = LockProcess.start(runtime);
      await processHolder.call("disablePolling", 0);
      for (let i = 0; i < 320; i++) {
        const mine = await lock.acquire();
        const theirs = processHolder.call(at(FORMS, i % 2), path, {
          timeout: 60_000,
        });
        blockThread(Math.random() * 0.4);
        await mine.close();
        await theirs;
        const again = lock.acquire();
        blockThread(Math.random() * 0.4);
        await processHolder.call("release");
        await (await again).close();
      }
    }
  },
  "inotify(7)",
);

/** Blocks the thread for a time. */
function blockThread(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}
