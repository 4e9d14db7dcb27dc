import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { Lock } from "../../mod.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

/** A mounted file system that can be made to stand still. */
async function slowFileSystem() {
  const dir = tempDir();
  const [source, path] = ["source", "mounted"].map((name) =>
    join(dir.path, name)
  );
  fs.mkdirSync(source);
  fs.mkdirSync(path);
  const { dev } = fs.statSync(path);
  const server = spawn("bindfs", ["-f", source, path], { stdio: "ignore" });
  const signal = (name: string) => process.kill(server.pid!, name);
  while (fs.statSync(path).dev === dev) {
    assert.equal(server.exitCode, null, "bindfs could not mount");
    await delay(5);
  }
  return {
    path,
    stop: () => signal("SIGSTOP"),
    go: () => signal("SIGCONT"),
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
  "Lock.acquire() leaves the event loop free while a file system stands still",
  async () => {
    await using slow = await slowFileSystem();
    const path = join(slow.path, "a.lock");
    // First the path is not known, then it is.
    for (let i = 0; i < 2; i++) {
      const lock = new Lock(path);
      slow.stop();
      let ticks = 0;
      const controller = new AbortController();
      const timer = setInterval(() => {
        if (++ticks === 10) controller.abort("enough");
      }, 5);
      const acquiring = lock.acquire({ signal: controller.signal });
      // If the event loop stood still nothing would end this.
      await assert.rejects(acquiring, (reason) => reason === "enough");
      clearInterval(timer);
      slow.go();
      while (openDescriptors(slow.path) > 0) await delay(5);
      await lock.run(() => {});
    }
  },
  "bindfs(1) and FUSE",
  "root",
);
