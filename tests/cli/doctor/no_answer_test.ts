import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { tempDir } from "../../support/temp_dir.ts";
import { test } from "../../support/test.ts";
import { failed } from "./support.ts";

test(
  "doctor: a file system that does not answer is an error, after seconds",
  async () => {
    using dir = tempDir();
    const source = join(dir.path, "source");
    const path = join(dir.path, "mounted");
    for (const name of [source, path]) fs.mkdirSync(name);
    const { dev } = fs.statSync(path);
    const server = spawn("bindfs", ["-f", source, path], { stdio: "ignore" });
    while (fs.statSync(path).dev === dev) await delay(5);
    const ended = once(server, "exit");
    try {
      process.kill(server.pid!, "SIGSTOP");
      const { code, status, message } = await failed(path);
      assert.equal(code, "ETIMEDOUT");
      assert.equal(status, 71);
      assert.match(
        message,
        /the file system did not answer for 10 seconds; check/,
      );
    } finally {
      process.kill(server.pid!, "SIGCONT");
      execFileSync("umount", ["--lazy", path]);
      await ended;
    }
  },
  "bindfs(1) and FUSE",
  "root that can mount",
);
