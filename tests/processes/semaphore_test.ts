import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { openDescriptors } from "../support/descriptors.ts";
import { runtimes } from "../support/env.ts";
import { LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { slots } from "../support/slots.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";

for (const form of ["acquire", "acquireSync"]) {
  const command = form === "acquire" ? "acquireSlot" : "acquireSlotSync";

  test(
    `a waiting process is woken when another process releases any slot (${form})`,
    async () => {
      for (const [i, runtime] of runtimes.entries()) {
        using dir = slots();
        await using child = LockProcess.start(runtime);
        await child.call("disablePolling", 0);
        const held = [0, 1, 2].map(dir.lockOutside);
        const waiting = child.call(command, 3, dir.options);
        await child.untilAsleep();
        const which = i % 3;
        at(held, which).release();
        assert.equal(await waiting, dir.path(which), runtime.name);
        for (const holder of held) holder.release();
      }
    },
    "inotify(7)",
  );

  test(
    `a waiting process is woken when the holder of a slot is killed (${form})`,
    async () => {
      for (const [i, runtime] of runtimes.entries()) {
        using dir = slots();
        await using holder = LockProcess.start(
          at(runtimes, (i + 1) % runtimes.length),
        );
        await using waiter = LockProcess.start(runtime);
        await waiter.call("disablePolling", 0);
        await holder.call("acquireSlot", 2, dir.options);
        await holder.call("acquireSlot", 2, dir.options);
        const waiting = waiter.call(command, 2, dir.options);
        await waiter.untilAsleep();
        holder.process.kill("SIGKILL");
        await waiting;
      }
    },
    "inotify(7)",
  );
}

test(
  "a process that runs out of descriptors while it opens slots closes them again",
  async () => {
    const LIMIT = 'ulimit -n 512; exec "$@"';
    for (const { command, directory, extension } of runtimes) {
      for (const form of ["acquireSlot", "acquireSlotSync"]) {
        using dir = slots();
        const holder = dir.semaphore(20);
        for (let i = 0; i < 20; i++) holder.acquireSync();
        const script = join(directory, "tests", "fixtures", "lock_process") +
          extension;
        await using child = new LockProcess(
          ["sh", "-c", LIMIT, "sh", ...command, script],
        );
        const { pid } = child.process;
        // This call opens the descriptors that the runtime itself needs.
        assert.equal(
          await child.call("tryAcquireSlot", 20, dir.options),
          null,
        );
        // Deno reads source maps for the first error of a module, and panics if
        // it cannot.
        const nowhere = { ...dir.options, directory: `${dir.directory}/none` };
        const fails = child.call("acquireSlotSync", 20, nowhere);
        await assert.rejects(fails, { code: "ENOENT" });
        await child.call("exhaust", 5);
        const failing = child.call(form, 20, dir.options);
        await assert.rejects(failing, { code: "EMFILE" });
        assert.equal(openDescriptors(dir.directory, pid), 0);
        // The descriptors suffice for one slot at a time.
        assert.equal(
          await child.call("tryAcquireSlot", 20, dir.options),
          null,
        );
        await child.call("relax");
        const waiting = child.call(form, 20, dir.options);
        await child.untilWaiting();
        holder[Symbol.dispose]();
        await waiting;
        assert.equal(openDescriptors(dir.directory, pid), 1);
      }
    }
  },
  "sh(1)",
  "/proc",
);

test(
  "10,000 contended acquisitions leak neither memory nor descriptors",
  async () => {
    for (const runtime of runtimes) {
      using dir = slots();
      await using child = LockProcess.start(runtime);
      const { pid } = child.process;
      const grown = await child.call("contend", 3, dir.options, 14_000);
      assert.ok(grown as number < 80, `${runtime.name}: ${grown} MB`);
      assert.equal(openDescriptors(dir.directory, pid), 0);
      const reported = openDescriptors("anon_inode:inotify", pid);
      assert.ok(
        reported <= 1,
        `${runtime.name}: ${reported} inotify descriptors`,
      );
    }
  },
  "/proc",
);

test(
  "a semaphore never has more holders than its maximum, in processes of every runtime and Python",
  async () => {
    using dir = tempDir();
    const inside = join(dir.path, "inside");
    fs.mkdirSync(inside);
    const [maximum, times] = [3, 60];
    const options = { name: "s", directory: dir.path, timeout: 60_000 };
    const children: LockProcess[] = [];
    const all: Promise<unknown>[] = [];
    const start = (child: LockProcess, ...how: unknown[]) => {
      children.push(child);
      all.push(child.call("enterSlots", ...how));
    };
    for (const runtime of runtimes) {
      for (const form of ["acquire", "acquireSync"]) {
        start(
          LockProcess.start(runtime),
          maximum,
          options,
          inside,
          times,
          form,
        );
      }
    }
    for (const newer of [false, true]) {
      start(
        LockProcess.startPython(newer),
        maximum,
        "s",
        dir.path,
        inside,
        times,
      );
    }
    try {
      const counts = await Promise.all(all) as number[];
      assert.ok(Math.max(...counts) <= maximum, `${counts}`);
    } finally {
      for (const child of children) await child[Symbol.asyncDispose]();
    }
    assert.deepEqual(fs.readdirSync(inside), []);
    assert.equal(fs.readdirSync(dir.path).length, maximum + 1);
  },
  "Deno, Bun and Node",
  "Python's portalocker 4",
);
