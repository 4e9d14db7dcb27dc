/** Deno whose FFI permission covers a few libraries, or all but a few. */

import assert from "node:assert/strict";
import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { libcPaths, posixConstants } from "../../ffi/posix/constants.ts";
import type { DenoApi } from "../../ffi/runtime/deno_api.ts";
import { denoLibrary } from "../../ffi/runtime/deno.ts";
import { denoWith, runtimes } from "../support/env.ts";
import { LockProcess, runScript } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

const FILES = ["--allow-read", "--allow-write"];

/** Where the C library is on this machine. */
function installedLibc(): string {
  const path = libcPaths(posixConstants()!).find((path) => fs.existsSync(path));
  assert.ok(path);
  return path;
}

/**
 * Locks with each of two copies of the package with these FFI permissions, where
 * a file that is not a library has the name of the C library. Returns whether the locks use FFI, and what
 * was printed to standard error.
 */
async function lockWith(...permissions: string[]) {
  using dir = tempDir();
  const { command, directory } = denoWith(...FILES, ...permissions);
  const script = join(dir.path, "script.mjs");
  for (const name of ["mod.ts", "src", "ffi"]) {
    const target = join(dir.path, "copy", name);
    fs.cpSync(join(directory, name), target, { recursive: true });
  }
  fs.writeFileSync(join(dir.path, "libc.so.6"), "not a library");
  fs.writeFileSync(
    script,
    `
    import { Lock as First } from ${
      JSON.stringify(pathToFileURL(join(directory, "mod.ts")).href)
    };
    import { Lock as Second } from "./copy/mod.ts";
    const descriptors = [];
    for (const [Lock, name] of [[First, "a.lock"], [Second, "b.lock"]]) {
      const lock = new Lock(name);
      await lock.run((file) => descriptors.push(typeof file.fd === "number"));
      if (await lock.run(() => new Lock(name).tryAcquire()) !== null) throw name;
    }
    console.log(JSON.stringify(descriptors));
    `,
  );
  const { code, stdout, stderr } = await runScript([...command, script], {
    cwd: dir.path,
  });
  assert.equal(code, 0, stderr);
  const [first, second] = JSON.parse(stdout);
  assert.equal(first, second);
  return { usesFfi: first, stderr };
}

for (const scope of ["the path", "the directory"]) {
  test(
    `Deno with FFI for ${scope} of the C library alone is woken by a release`,
    async () => {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      const libc = installedLibc();
      const granted = scope === "the path" ? libc : dirname(libc);
      await using waiter = LockProcess.start(
        denoWith(...FILES, `--allow-ffi=${granted}`),
      );
      await waiter.call("disablePolling", 2);
      for (const other of runtimes) {
        for (const form of ["acquire", "acquireSync"]) {
          await using holder = LockProcess.start(other);
          await holder.call("acquire", path);
          const waiting = waiter.call(form, path, { timeout: 60_000 });
          await waiter.untilAsleep();
          await holder.call("release");
          await waiting;
          await waiter.call("release");
        }
      }
      await waiter.call("acquire", path, { locker: "ofd" });
      waiter.process.stdin.end();
      assert.equal((await waiter.ended).stderr, "");
    },
    "Deno",
    "/proc",
  );
}

test(
  "Deno uses an FFI permission with exceptions, and opens the C library by its path",
  async () => {
    const result = await lockWith("--allow-ffi", "--deny-ffi=/a/library.so");
    assert.deepEqual(result, { usesFfi: true, stderr: "" });
  },
  "Deno",
  "/proc",
);

test(
  "Deno warns once if the scope of its FFI permission does not suffice",
  async () => {
    const missing = libcPaths(posixConstants()!)
      .find((path) => !fs.existsSync(path));
    // Deno resolves the name against the working directory.
    for (const granted of ["libc.so.6", missing ?? "libc.so.6"]) {
      const { usesFfi, stderr } = await lockWith(`--allow-ffi=${granted}`);
      assert.equal(usesFfi, false);
      assert.equal(stderr.match(/PortalockWarning/g)?.length, 1, stderr);
      const suggested = /pass --allow-ffi=([^ ]*), or --allow-ffi/.exec(stderr);
      assert.ok(suggested?.[1], stderr);
      const result = await lockWith(`--allow-ffi=${suggested[1]}`);
      assert.deepEqual(result, { usesFfi: true, stderr: "" });
    }
  },
  "Deno",
  "/proc",
);

test(
  "Deno does not warn if the program does not have an FFI permission for the C library, or denies it",
  async () => {
    for (
      const permissions of [
        [],
        ["--deny-ffi"],
        ["--allow-ffi=/a/library.so"],
        ["--allow-ffi", "--deny-ffi=libc.so.6"],
        ["--allow-ffi", `--deny-ffi=${installedLibc()}`],
        [`--allow-ffi=${installedLibc()}`, "--deny-ffi"],
      ]
    ) {
      const result = await lockWith(...permissions);
      assert.deepEqual(
        result,
        { usesFfi: false, stderr: "" },
        `${permissions}`,
      );
    }
  },
  "Deno",
  "/proc",
);

test("Deno loads no library without the permission, for which it would prompt", () => {
  const loaded: string[] = [];
  const fake = {
    permissions: {
      querySync: ({ path }: { path?: string }) => ({
        state: path === "/c/libc.so.6" ? "granted" : "prompt",
        partial: false,
      }),
    },
    dlopen(path: string) {
      loaded.push(path);
      return { symbols: {}, close() {} };
    },
  } as unknown as DenoApi;
  const paths = ["/a/libc.so.6", "/b/libc.so.6", "/c/libc.so.6"];
  assert.equal(denoLibrary(fake, "libc.so.6", paths), "/c/libc.so.6");
  assert.equal(denoLibrary(fake, "libc.so.6", paths.slice(0, 2)), null);
  assert.deepEqual(loaded, ["/c/libc.so.6"]);
});
