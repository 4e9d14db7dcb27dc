import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { Lock } from "../../mod.ts";
import { abortReasons } from "../support/abort_reasons.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

/** Mounts a file system that can be stopped and resumed. */
async function slowFileSystem() {
  const dir = tempDir();
  const source = join(dir.path, "source");
  const path = join(dir.path, "mounted");
  fs.mkdirSync(source);
  fs.mkdirSync(path);
  const { dev } = fs.statSync(path);
  // The kernel would otherwise ask the stopped server again after a second, for
  // each name on the path that Deno resolves in its main thread.
  const cache = "attr_timeout=600,entry_timeout=600";
  const server = spawn("bindfs", ["-f", "-o", cache, source, path], {
    stdio: "ignore",
  });
  const signal = (name: string) => process.kill(server.pid!, name);
  while (fs.statSync(path).dev === dev) {
    assert.equal(server.exitCode, null, "bindfs(1) failed to mount");
    await delay(5);
  }
  return {
    path,
    stop: () => signal("SIGSTOP"),
    resume: () => signal("SIGCONT"),
    async [Symbol.asyncDispose]() {
      signal("SIGCONT");
      const ended = once(server, "exit");
      spawnSync("umount", [path]);
      await ended;
      dir[Symbol.dispose]();
    },
  };
}

test(
  "Lock.acquire() does not block the event loop while the file system blocks",
  async () => {
    await using slow = await slowFileSystem();
    const path = join(slow.path, "a.lock");
    // Deno without FFI resolves the path in its main thread, with readlink(2).
    // The kernel answers from its cache if the file exists.
    fs.writeFileSync(path, "");
    fs.statSync(path);
    // The second time, the path is known to the package.
    for (const aborting of abortReasons()) {
      const lock = new Lock(path);
      slow.stop();
      let ticks = 0;
      const timer = setInterval(() => {
        if (++ticks === 10) aborting.abort();
      }, 5);
      const acquiring = lock.acquire({ signal: aborting.signal });
      // The abort comes from the event loop, which must not block.
      await aborting.rejects(acquiring);
      clearInterval(timer);
      slow.resume();
      while (openDescriptors(slow.path) > 0) await delay(5);
      await lock.run(() => {});
    }
  },
  "bindfs(1) and FUSE",
  "root",
);
