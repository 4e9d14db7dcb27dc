/** What comes between the acquisition of a lock and the start of the program. */

import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { thisHost } from "../../ffi/runtime/host.ts";
import { parseInvocation } from "../../src/cli/grammar/options.ts";
import { runSupervised } from "../../src/cli/run/supervised.ts";
import type { HeldLock, RunInvocation } from "../../src/cli/types.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

/** Runs touch(1) under a lock, and checks that nothing was started. */
async function runTouch(
  acquire: (interruption: AbortSignal) => Promise<Partial<HeldLock>>,
): Promise<number> {
  using dir = tempDir();
  const file = join(dir.path, "file");
  let releases = 0;
  const release = () => Promise.resolve(void releases++);
  try {
    return await runSupervised(
      thisHost(),
      null,
      parseInvocation(["f", "touch", file], "/bin/sh") as RunInvocation,
      async (signal) => ({ fd: null, release, ...await acquire(signal) }),
    );
  } finally {
    assert.equal(releases, 1);
    assert.ok(!fs.existsSync(file));
  }
}

test(
  "cli: if the lock is lost before the program starts, nothing is started",
  async () => {
    const signal = AbortSignal.abort(new Error("Lost the lock on f"));
    const expected = {
      status: 75,
      message: "Lost the lock on f; nothing was started",
    };
    await assert.rejects(
      runTouch(() => Promise.resolve({ signal })),
      expected,
    );
  },
  "sh(1)",
);

test(
  "cli: a signal after the acquisition releases the lock, and starts nothing",
  async () => {
    const status = await runTouch((interruption) => {
      process.kill(process.pid, "SIGTERM");
      return new Promise((resolve) => {
        interruption.addEventListener("abort", () => resolve({}));
      });
    });
    assert.equal(status, 143);
  },
  "sh(1)",
);
