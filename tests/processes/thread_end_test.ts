import { spawnSync } from "node:child_process";
import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { hasCapability } from "../support/capabilities.ts";
import { allRuntimes, fixtureCommand, runtimes } from "../support/env.ts";
import { runScript } from "../support/processes.ts";
import { injecting } from "../support/strace.ts";
import { sortedNames, tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

for (const kind of ["Lock", "TemporaryFileLock", "PidFileLock"]) {
  for (const end of ["is terminated", "ends"]) {
    test(`workers: two threads of one process exclude each other with ${kind}, and one that ${end} releases it`, async () => {
      for (const runtime of allRuntimes) {
        using dir = tempDir();
        const { code, stdout, stderr } = await runScript([
          ...fixtureCommand(runtime, "end_with_lock"),
          end === "is terminated" ? "thread is terminated" : "thread is done",
          kind,
          join(dir.path, "a"),
        ]);
        assert.equal(code, 0, `${runtime.name}: ${stderr}`);
        assert.equal(stdout, "held\nexcluded\nfree\n", runtime.name);
        const left = kind === "Lock" ? ["a"] : [];
        assert.deepEqual(sortedNames(dir.path), left, runtime.name);
      }
    });
  }
}

test("workers: a thread that is terminated releases every lock, also 400 of them", async () => {
  for (const runtime of allRuntimes) {
    using dir = tempDir();
    const { code, stdout, stderr } = await runScript([
      ...fixtureCommand(runtime, "end_with_lock"),
      ...["thread with many locks", "Lock", join(dir.path, "a")],
    ]);
    // Windows may refuse locks that it could not release.
    const expected = hasCapability("/proc")
      ? /^0 stay locked, 0 refused\n$/
      : /^0 stay locked, \d+ refused\n$/;
    assert.match(stdout, expected, `${runtime.name}: ${stderr}`);
    assert.equal(code, 0, `${runtime.name}: ${stderr}`);
  }
});

test("workers: a thread that has released its locks closes no descriptor when it ends", async () => {
  for (const runtime of allRuntimes) {
    using dir = tempDir();
    const { code, stdout, stderr } = await runScript([
      ...fixtureCommand(runtime, "end_with_lock"),
      ...["thread has released", "Lock", join(dir.path, "a")],
    ]);
    assert.equal(code, 0, `${runtime.name}: ${stderr}`);
    assert.equal(stdout, "still open\n", runtime.name);
  }
});

test(
  "workers: threads that are terminated at random moments of a wait leave no descriptor open",
  async () => {
    // The other runtimes do not use inotify(7) in workers.
    for (const runtime of runtimes) {
      if (!runtime.name.startsWith("node")) continue;
      using dir = tempDir();
      const { code, stdout, stderr } = await runScript([
        ...fixtureCommand(runtime, "end_with_lock"),
        ...["threads are terminated", "Lock", join(dir.path, "a.lock")],
      ]);
      assert.equal(stdout, "[]\n", `${runtime.name}: ${stderr}`);
      assert.equal(code, 0, `${runtime.name}: ${stderr}`);
    }
  },
  "/proc",
);

/** What publishes a file, and the calls that do so. */
const PUBLICATIONS = [
  ["rename", "rename,renameat,renameat2"],
  ["link", "link,linkat"],
] as const;

for (const [how, calls] of PUBLICATIONS) {
  for (const fuse of [false, true]) {
    test(
      `workers: a thread that is terminated during its ${how} on ${
        fuse ? "FUSE" : "a local file system"
      } loses its lock after that call`,
      async () => {
        using dir = tempDir();
        const source = join(dir.path, "source");
        const mounted = fuse ? join(dir.path, "mounted") : source;
        fs.mkdirSync(source);
        if (fuse) fs.mkdirSync(mounted);
        if (fuse) spawnSync("bindfs", [source, mounted]);
        try {
          const delayed = `${calls}:delay_enter=1000000`;
          await Promise.all(allRuntimes.map(async (runtime) => {
            const { code, stdout, stderr } = await runScript([
              ...injecting(delayed),
              ...fixtureCommand(runtime, "end_with_lock"),
              `thread is terminated during ${how}`,
              ...["Lock", join(mounted, runtime.name.replaceAll(" ", "-"))],
            ]);
            assert.equal(stdout, "unchanged\n", `${runtime.name}: ${stderr}`);
            assert.equal(code, 0, `${runtime.name}: ${stderr}`);
          }));
        } finally {
          if (fuse) spawnSync("umount", [mounted]);
        }
      },
      "strace(1)",
      ...fuse ? ["bindfs(1) and FUSE", "root"] as const : [],
    );
  }
}
