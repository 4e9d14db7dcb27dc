import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { type AlreadyLocked, Lock } from "../../mod.ts";
import { hasCapability } from "../support/capabilities.ts";
import { openDescriptors } from "../support/descriptors.ts";
import {
  allRuntimes,
  fixtureCommand,
  runtimes,
  testEnv,
} from "../support/env.ts";
import { LockProcess, runScript } from "../support/processes.ts";
import { tracing } from "../support/strace.ts";
import { sortedNames, tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { at, firstItems } from "../support/values.ts";

/** How often the processes hand the lock over, all together. */
const HAND_OVERS = 5_000;

/** The user and the group of processes without rights. */
const NOBODY = 65534;

test(
  "a child process that outlives the holder does not keep the lock",
  async () => {
    for (const runtime of runtimes) {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      await using holder = LockProcess.start(runtime);
      await holder.call("acquire", path);
      const sleeper = await holder.call("sleeper") as number;
      try {
        assert.equal(openDescriptors(path, sleeper), 0);
        await holder.kill();
        const file = await new Lock(path).tryAcquire();
        assert.ok(file);
        await file.close();
      } finally {
        process.kill(sleeper, "SIGKILL");
      }
    }
  },
  "sh(1)",
);

test(
  "1,000 acquisitions leave the number of open descriptors unchanged",
  async () => {
    for (const runtime of runtimes) {
      using dir = tempDir();
      await using child = LockProcess.start(runtime);
      const path = join(dir.path, "a.lock");
      assert.equal(await child.call("cycle", path, 1000), 0, runtime.name);
      if (!hasCapability("/proc")) continue;
      assert.equal(openDescriptors(dir.path, child.process.pid), 0);
    }
  },
);

test("a process that exits normally while it holds the lock releases it", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  for (const runtime of runtimes) {
    await using child = LockProcess.start(runtime);
    await child.call("acquire", path);
    child.process.stdin.end();
    const { code, stderr } = await child.ended;
    assert.equal(stderr, "", "the process must not print a warning");
    assert.equal(code, 0);
    await new Lock(path).run(() => {});
  }
});

test(
  "8 processes of every runtime and Python count to 20,000 under one lock",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "counter");
    fs.writeFileSync(path, "0");
    const children = [
      ...Array.from(
        { length: 7 },
        (_, i) => LockProcess.start(at(runtimes, i % runtimes.length)),
      ),
      LockProcess.startPython(),
    ];
    try {
      await Promise.all(
        children.map((child) => child.call("count", path, 2500)),
      );
      assert.equal(fs.readFileSync(path, "utf8"), "20000");
    } finally {
      await Promise.all(children.map((child) => child[Symbol.asyncDispose]()));
    }
  },
  "Deno, Bun and Node",
  "Python's portalocker",
);

test(
  "RLock.acquire() of a held lock makes no system call for a lock",
  async () => {
    for (const runtime of runtimes) {
      using dir = tempDir();
      const path = join(dir.path, "a.lock");
      const trace = join(dir.path, "trace");
      const { code, stderr } = await runScript([
        ...tracing(trace, "flock,%file"),
        ...fixtureCommand(runtime, "reacquire"),
        path,
      ]);
      assert.equal(code, 0, stderr);
      const calls = fs.readFileSync(trace, "utf8");
      const parts = calls.split(/^.*reacquiring-mark.*$/m);
      const [before, within, after] = firstItems(parts, 3);
      const concerned = (part: string) =>
        part.split("\n").filter((line) => /flock\(|a\.lock/.test(line));
      assert.notDeepEqual(concerned(before), [], runtime.name);
      assert.deepEqual(concerned(within), [], runtime.name);
      assert.notDeepEqual(concerned(after), [], runtime.name);
    }
  },
  "strace(1)",
);

test(
  "processes that name the same files in different orders do not deadlock",
  async () => {
    using dir = tempDir();
    const path = (name: string) => join(dir.path, name);
    const paths = ["a", "b", "c"].map(path);
    for (const path of paths) fs.writeFileSync(path, "0");
    // Sorted by these names, the order would be different.
    fs.symlinkSync(dir.path, path("1"));
    fs.symlinkSync("a", path("z"));
    const [a, b, c] = firstItems(paths, 3);
    const [elsewhere, z] = [join(path("1"), "c"), path("z")];
    const lists = [[a, b, c], [elsewhere, b, z], [c, b], [z, c]];
    const times = 300;
    const children = lists.map((_, i) =>
      LockProcess.start(at(runtimes, i % runtimes.length))
    );
    try {
      await Promise.all(
        children.map((child, i) => child.call("countAll", lists[i], times)),
      );
    } finally {
      for (const child of children) await child[Symbol.asyncDispose]();
    }
    const counts = paths.map((path) => Number(fs.readFileSync(path, "utf8")));
    assert.deepEqual(counts, [3, 3, 4].map((n) => n * times));
  },
  "symbolic links",
);

test(
  "a PID from a file is believed only of a process of the same PID namespace",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.pid");
    const container = ["unshare", "--pid", "--fork", "--mount-proc"];
    for (const runtime of runtimes) {
      const start = () =>
        new LockProcess([
          ...[...container, "--kill-child"],
          ...fixtureCommand(runtime, "lock_process"),
        ]);
      await using holder = start();
      await holder.call("hold", "PidFileLock", path);
      assert.equal(await holder.call("pid"), 1);
      for (const timeout of [0, 200]) {
        const options = { timeout };
        await using contender = start();
        assert.equal(await contender.call("readPid", path), 1);
        assert.equal(await contender.call("pid"), 1);
        await assert.rejects(
          contender.call("hold", "PidFileLock", path, options),
          (error: AlreadyLocked) => {
            assert.equal(error.name, "AlreadyLocked");
            assert.equal(error.holderPid, null, runtime.name);
            assert.match(error.message, /already locked \(waited/);
            return true;
          },
        );
      }
      await holder.call("drop");
    }
  },
  "PID namespaces",
);

test(
  "the two lines of the README make a signal remove the files of a PidFileLock",
  async () => {
    const readme = fs.readFileSync(join(testEnv.root, "README.md"), "utf8");
    const lines = readme.match(/^process\.once\("SIG.*$/gm);
    const script = join("tests", "fixtures", "end_with_lock.ts");
    const fixture = fs.readFileSync(join(testEnv.root, script), "utf8");
    assert.equal(lines?.length, 2);
    for (const line of lines) assert.ok(fixture.includes(line), line);

    for (const runtime of runtimes) {
      using dir = tempDir();
      const { code, stdout, stderr } = await runScript([
        ...fixtureCommand(runtime, "end_with_lock"),
        ...["signal", "PidFileLock", join(dir.path, "a")],
      ]);
      assert.equal(stdout, "held\n", stderr);
      assert.equal(code, 143, `${runtime.name}: ${stderr}`);
      assert.deepEqual(sortedNames(dir.path), [], runtime.name);
    }
  },
  "signals",
);

test(
  "thousands of hand-overs between Deno, Bun, Node and Python leave no waiter beside a free lock",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "turns");
    fs.writeFileSync(path, `0 ${Date.now()} 0`);
    const children = [
      ...runtimes.map(LockProcess.start),
      LockProcess.startPython(),
    ];
    try {
      const gaps = await Promise.all(
        children.map((processHolder) =>
          processHolder.call("takeTurns", path, HAND_OVERS)
        ),
      ) as number[][];
      // The Python process does not measure. A busy machine may stall once or
      // twice.
      const ours = gaps.slice(0, -1).flat();
      assert.ok(ours.length < 3, `the lock was free for ${ours} ms`);
    } finally {
      await Promise.all(
        children.map((processHolder) => processHolder[Symbol.asyncDispose]()),
      );
    }
  },
  "Python's portalocker",
  "Deno, Bun and Node",
);

test(
  "TemporaryFileLock that cannot remove its file is released, and reports the error if requested",
  async () => {
    for (const runtime of runtimes) {
      using dir = tempDir();
      const path = join(dir.path, "sub", "a.lock");
      fs.mkdirSync(join(dir.path, "sub"));
      fs.chownSync(join(dir.path, "sub"), NOBODY, NOBODY);
      fs.chmodSync(dir.path, 0o755);
      await using child = LockProcess.start(runtime);
      await child.call("attempt", "Lock", join(dir.path, "loaded"));
      await child.call("become", NOBODY);
      for (const throwOnReleaseError of [false, true]) {
        fs.chmodSync(join(dir.path, "sub"), 0o755);
        fs.rmSync(path, { force: true });
        const options = { throwOnReleaseError };
        // Each form gets its own object, because an object keeps its options.
        const name = throwOnReleaseError ? `${dir.path}/sub/./a.lock` : path;
        await child.call("hold", "TemporaryFileLock", name, options);
        fs.chmodSync(join(dir.path, "sub"), 0o555);
        const dropping = child.call("drop");
        if (throwOnReleaseError) {
          const reported = { name: "LockException", code: "EACCES" };
          await assert.rejects(dropping, reported);
        } else {
          await dropping;
        }
        assert.ok(fs.existsSync(path));
        await using _free = await new Lock(path, { timeout: 0 }).acquire();
      }
    }
  },
  "root",
  "permission bits",
);

test(
  "an error about a lock file of another user names the owner",
  async () => {
    for (const runtime of runtimes) {
      using dir = tempDir();
      fs.chmodSync(dir.path, 0o1777);
      const path = join(dir.path, "a.lock");
      fs.writeFileSync(path, "", { mode: 0o600 });
      await using child = LockProcess.start(runtime);
      await child.call("attempt", "Lock", join(dir.path, "loaded"));
      await child.call("become", NOBODY);
      for (const kind of ["Lock", "RLock", "TemporaryFileLock"]) {
        const named = {
          code: "EACCES",
          message: /EACCES.*owned by user 0\)|denied.*owned by user 0\)/,
        };
        await assert.rejects(child.call("hold", kind, path), named);
        await assert.rejects(child.call("holdSync", kind, path), named);
      }
    }
  },
  "root",
  "permission bits",
);

test(
  "sticky /tmp with protected_regular: an existing file is opened without O_CREAT",
  async () => {
    for (const runtime of allRuntimes) {
      for (const kind of ["Lock", "TemporaryFileLock"]) {
        using dir = tempDir();
        const path = join(dir.path, "a.lock");
        fs.writeFileSync(path, "");
        const trace = join(dir.path, "trace");
        // The kernel's result of the first attempt, if that has O_CREAT.
        const inject = ["-e", "inject=open,openat:error=EACCES:when=1"];
        const creates = runtime.name !== "deno without FFI";
        const { code, stderr, stdout } = await runScript([
          ...tracing(trace, "open,openat"),
          ...["-P", path],
          ...creates ? inject : [],
          ...fixtureCommand(runtime, "end_with_lock"),
          "acquireOnce",
          kind,
          path,
        ]);
        assert.equal(code, 0, stderr);
        assert.equal(stdout, "acquired\n");
        const opened = fs.readFileSync(trace, "utf8").split("\n")
          .filter((line) =>
            /open(at)?\(/.test(line) && line.includes("O_RDWR") ||
            /O_WRONLY/.test(line)
          );
        assert.equal(opened.length, creates ? 2 : 1, opened.join("\n"));
        assert.equal(/O_CREAT/.test(at(opened, 0)), creates);
        assert.doesNotMatch(at(opened, -1), /O_CREAT/);
      }
    }
  },
  "strace(1)",
);
