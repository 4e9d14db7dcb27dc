import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { DenoApi } from "../../ffi/runtime/deno_api.ts";
import { denoPlatform } from "../../ffi/file/deno_platform.ts";
import { staleName } from "../fixtures/atomic_writes.ts";
import { denoWith, runtimes, testEnv } from "../support/env.ts";
import { LockProcess, runScript } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

const runtime = (name: string) =>
  runtimes.find((runtime) => runtime.name === name)!;

/** The source of a program that locks a file and prints the result as JSON. */
const script = (mod: string, path: string) => `
  const { Lock, openAtomic, updateFile, writeAtomic } = await import(${
  JSON.stringify(pathToFileURL(mod).href)
});
  const path = ${JSON.stringify(path)};
  let result;
  try {
    result = await new Lock(path).run(() => "locked");
  } catch ({ name, message, code }) {
    result = { name, message, code };
    result.writers = await Promise.all([
      openAtomic(path),
      writeAtomic(path, ""),
      updateFile(path, (text) => text),
    ].map((writing) => writing.then(() => "written", ({ name }) => name)));
  }
  console.log(JSON.stringify(result));
`;

/** Runs {@linkcode script}, and asserts that the runtime prints nothing else. */
async function resultOf(
  { command, directory, extension }: typeof runtimes[number],
  path: string,
  dir: string,
) {
  const file = join(dir, "script.mjs");
  fs.writeFileSync(file, script(join(directory, `mod${extension}`), path));
  const { stdout, stderr } = await runScript([...command, file], { cwd: dir });
  assert.equal(stderr, "");
  return JSON.parse(stdout);
}

test(
  "Deno without FFI rejects other lockers with what they need, and opens nothing",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using worker = LockProcess.start(
      denoWith("--allow-read", "--allow-write"),
    );
    for (const locker of ["ofd", "lockf"]) {
      for (const form of ["acquire", "acquireSync"]) {
        await assert.rejects(worker.call(form, path, { locker }), {
          name: "LockUnsupported",
          message:
            `Cannot lock ${JSON.stringify(path)}: the locker "${locker}" ` +
            "needs FFI; pass --allow-ffi to Deno 2.8 or newer",
        });
      }
    }
    assert.equal(fs.existsSync(path), false);
  },
  "Deno",
);

test(
  "Deno with only --allow-read and --allow-write excludes other runtimes, and they exclude it",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    await using without = LockProcess.start(
      denoWith("--allow-read", "--allow-write"),
    );
    for (const other of runtimes) {
      await using worker = LockProcess.start(other);
      await without.call("acquire", path);
      assert.equal(await worker.call("tryAcquire", path), false, other.name);
      await without.call("release");
      await worker.call("acquire", path);
      assert.equal(await without.call("tryAcquire", path), false, other.name);
      const waiting = without.call("acquire", path);
      await worker.call("release");
      await waiting;
      await without.call("release");
    }
  },
  "Deno, Bun and Node",
);

test("Deno without permissions names the missing permission", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  for (
    const [permissions, missing] of [
      [[], "--allow-write"],
      [["--allow-ffi"], "--allow-write"],
    ] as const
  ) {
    const deno = denoWith(
      ...permissions,
      // Allows to read the package itself.
      `--allow-read=${runtime("deno").directory}`,
    );
    const { name, message } = await resultOf(deno, path, dir.path);
    assert.equal(name, "NotCapable");
    assert.match(message, new RegExp(missing));
    assert.ok(message.includes(path));
  }
  assert.deepEqual(fs.readdirSync(dir.path), ["script.mjs"]);
}, "Deno, Bun and Node");

test(
  "Deno with only --allow-write locks for writing, and does not block on a FIFO",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const deno = denoWith("--allow-write");
    assert.equal(await resultOf(deno, path, dir.path), "locked");
    const fifo = join(dir.path, "fifo");
    await runScript(["mkfifo", fifo]);
    const { code } = await resultOf(deno, fifo, dir.path);
    assert.equal(code, "ENXIO");
  },
  "Deno, Bun and Node",
  "mkfifo(1)",
);

test(
  "the oldest Deno and Bun lock the same file as the newest",
  async () => {
    using dir = tempDir();
    for (const old of testEnv.oldest) {
      // In this Deno, the descriptors of node:fs are not those of the system.
      const path = join(dir.path, `${old.name}.lock`);
      await using older = LockProcess.start(old);
      await using newer = LockProcess.start(runtime(old.name));
      await older.call("acquire", path);
      assert.equal(await newer.call("tryAcquire", path), false, old.name);
      await older.call("release");
      await newer.call("acquire", path);
      assert.equal(await older.call("tryAcquire", path), false, old.name);
      const waiting = older.call("acquireSync", path);
      await newer.call("release");
      await waiting;
    }
  },
  "Deno, Bun and Node",
  "the oldest Deno and Bun",
);

test("Deno without FFI and without built-in file locks rejects with the remedy", () => {
  const deno = { version: { deno: "2.6.0" }, FsFile: { prototype: {} } };
  const api = deno as unknown as DenoApi;
  // FFI does not help: its descriptors need 2.8, too.
  for (const onWindows of [false, true]) {
    assert.throws(() => denoPlatform(api, onWindows), {
      name: "Unsupported",
      message: "Deno 2.6.0 does not have built-in file locks; update to 2.8 " +
        "or newer",
    });
  }
});

test(
  "lock() and lockSync() lock a Deno.FsFile with and without FFI",
  async () => {
    using dir = tempDir();
    const mod = pathToFileURL(join(runtime("deno").directory, "mod.ts")).href;
    const file = join(dir.path, "script.mjs");
    fs.writeFileSync(
      file,
      `
    import { Lock, lock, LOCK_EX, LOCK_NB, LOCK_SH, lockSync, unlock }
      from ${JSON.stringify(mod)};
    const options = { read: true, write: true, create: true };
    using one = Deno.openSync("a.lock", options);
    using two = Deno.openSync("a.lock", options);
    const name = (error) => error.name;
    const results = [];
    await lock(one, LOCK_EX);
    results.push(await lock(two, LOCK_EX | LOCK_NB).catch(name));
    results.push(await new Lock("a.lock").tryAcquire());
    unlock(one);
    lockSync(two, LOCK_SH);
    lockSync(one, LOCK_SH);
    try { lockSync(one, LOCK_EX | LOCK_NB); }
    catch (error) { results.push(name(error)); }
    console.log(JSON.stringify(results));
    `,
    );
    for (const ffi of [[], ["--allow-ffi"]]) {
      const deno = denoWith("--allow-read", "--allow-write", ...ffi);
      const { stdout, stderr } = await runScript([...deno.command, file], {
        cwd: dir.path,
      });
      assert.equal(stderr, "");
      const expected = ["AlreadyLocked", null, "AlreadyLocked"];
      assert.deepEqual(JSON.parse(stdout), expected);
    }
  },
  "Deno, Bun and Node",
);

test("the first lock of a process prints no warning", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  for (const each of runtimes) {
    assert.equal(await resultOf(each, path, dir.path), "locked", each.name);
  }
});

test(
  "Node that may not call C rejects with the flag to pass, and opens nothing",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.lock");
    const [node, node26] = [runtime("node"), runtime("node26")];
    const permission = "--permission --allow-fs-read=* --allow-fs-write=*";
    for (
      const [each, options, message] of [
        [node, "--no-addons", /options of Node .* disable addons.*--no-addons/],
        [node26, permission, /permission model.*--allow-ffi/],
        [
          node26,
          `--no-experimental-ffi ${permission}`,
          /disable addons; pass --allow-addons/,
        ],
      ] as const
    ) {
      const command = [...each.command, ...options.split(" ")];
      const result = await resultOf({ ...each, command }, path, dir.path);
      assert.equal(result.name, "LockUnsupported");
      assert.equal(result.code, "ERR_LOCK_UNSUPPORTED");
      assert.deepEqual(result.writers, Array(3).fill("LockUnsupported"));
      assert.match(result.message, message);
      assert.match(result.message, /^Cannot lock ".*a\.lock": /);
      assert.equal(fs.existsSync(path), false);
    }
  },
  "Deno, Bun and Node",
);

test("Node 26 without node:ffi uses the addon", async () => {
  using dir = tempDir();
  const node = runtime("node26");
  const command = [...node.command, "--no-experimental-ffi"];
  const without = { ...node, command };
  const path = join(dir.path, "a.lock");
  assert.equal(await resultOf(without, path, dir.path), "locked");
}, "Deno, Bun and Node");

test(
  "the oldest Deno and Bun write files atomically",
  async () => {
    for (const { name, command, directory } of testEnv.oldest) {
      using dir = tempDir();
      const path = join(dir.path, "a");
      const stale = await staleName(dir.path);
      fs.writeFileSync(join(dir.path, stale), "");
      const writer = join(directory, "tests", "fixtures", "atomic_writer.ts");
      for (const options of [{}, { replace: true }]) {
        const script = [writer, "ways", path, JSON.stringify(options)];
        const { stdout, stderr } = await runScript([...command, ...script]);
        assert.equal(stderr, "");
        assert.deepEqual(JSON.parse(stdout), Array(5).fill("written"), name);
      }
      // Without FFI, Deno does not know which machine has written a file.
      const left = name.startsWith("deno") ? [stale, "a"] : ["a"];
      assert.deepEqual(fs.readdirSync(dir.path).sort(), left, name);
    }
  },
  "the oldest Deno and Bun",
  "an id of this machine",
);
