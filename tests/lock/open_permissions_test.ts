import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { Lock, type LockOptions, TemporaryFileLock } from "../../mod.ts";
import { platform } from "../../ffi/mod.ts";
import { parseMode } from "../../src/options/open_mode.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

/**
 * Acquires in the async and the sync form, and checks that both behave alike.
 */
async function bothForms(
  path: string,
  options: LockOptions | undefined,
  check: (form: () => Promise<string>) => Promise<void>,
) {
  const lock = () => new Lock(path, options);
  await check(() => lock().run((file) => file.path));
  await check(async () => {
    await Promise.resolve();
    using file = lock().acquireSync();
    return file.path;
  });
}

const succeeds = (path: string, options?: LockOptions) =>
  bothForms(path, options, async (form) => {
    assert.equal(await form(), path);
  });

const fails = (path: string, error: object, options?: LockOptions) =>
  bothForms(path, options, async (form) => {
    await assert.rejects(form, error);
  });

for (
  const name of ["with spaces", `"quotes' and \`ticks\``, "line\nbreak", "🔒é"]
) {
  test(
    `Lock locks a file named ${JSON.stringify(name)}`,
    async () => {
      using dir = tempDir();
      await succeeds(join(dir.path, name));
      assert.deepEqual(fs.readdirSync(dir.path), [name]);
    },
    ...(/["\n]/.test(name)
      ? ["line breaks and quotes in file names" as const]
      : []),
  );
}

test("Lock in a missing directory fails with ENOENT and does not create it", async () => {
  using dir = tempDir();
  const path = join(dir.path, "no", "a.lock");
  await fails(path, { code: "ENOENT", message: /No such file|no such file/ });
  assert.deepEqual(fs.readdirSync(dir.path), []);
});

test("Lock with a name that is too long fails with ENAMETOOLONG", async () => {
  using dir = tempDir();
  await fails(join(dir.path, "a".repeat(300)), { code: "ENAMETOOLONG" });
}, "POSIX error codes");

test(
  "Lock on a directory fails with EISDIR, but with mode r locks it",
  async () => {
    using dir = tempDir();
    await fails(dir.path, { code: "EISDIR", message: /^((?!belongs).)*$/ });
    await succeeds(dir.path, { mode: "r" });
    await using _held = await new Lock(dir.path, { mode: "r" }).acquire();
    assert.equal(new Lock(dir.path, { mode: "r" }).tryAcquireSync(), null);
  },
  "POSIX error codes",
);

test("Lock with a path below a file fails with ENOTDIR", async () => {
  using dir = tempDir();
  fs.writeFileSync(join(dir.path, "file"), "");
  await fails(join(dir.path, "file", "a.lock"), { code: "ENOTDIR" });
}, "POSIX error codes");

test("Lock on a circle of symbolic links fails with ELOOP", async () => {
  using dir = tempDir();
  const path = join(dir.path, "circle");
  fs.symlinkSync("circle", path);
  await fails(path, { code: "ELOOP" });
  // Not the link itself, which these locks refuse, but one on the way to it.
  const below = join(path, "a.lock");
  await assert.rejects(
    new TemporaryFileLock(below).acquire(),
    (error: Error) => {
      assert.match(error.message, /ELOOP|symbolic links/);
      return !error.message.includes("refuse");
    },
  );
}, "symbolic links");

test("Lock on a symbolic link locks its target", async () => {
  using dir = tempDir();
  const target = join(dir.path, "target");
  const link = join(dir.path, "link");
  fs.writeFileSync(target, "");
  fs.symlinkSync(target, link);
  await using _held = await new Lock(link).acquire();
  assert.equal(await new Lock(target).tryAcquire(), null);
}, "symbolic links");

test(
  "Lock on a read-only file fails with a writing mode, but with mode r locks it",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "a.txt");
    fs.writeFileSync(path, "x", { mode: 0o444 });
    await asOtherUser(dir.path, async () => {
      await fails(path, { code: "EACCES" });
      await succeeds(path, { mode: "r" });
      await using _held = await new Lock(path, { mode: "r" }).acquire();
      const contender = new Lock(path, { mode: "r" });
      assert.equal(await contender.tryAcquire(), null, "r locks exclusively");
    });
  },
  "root",
);

test(
  "Lock without permission for the directory fails with EACCES",
  async () => {
    using dir = tempDir();
    const closed = join(dir.path, "closed");
    fs.mkdirSync(closed, { mode: 0o700 });
    await asOtherUser(dir.path, async () => {
      await fails(join(closed, "a.lock"), { code: "EACCES" });
    });
  },
  "root",
);

/**
 * Runs a body as the effective user `nobody`, whose permissions the kernel
 * checks.
 */
async function asOtherUser(dir: string, body: () => Promise<void>) {
  fs.chmodSync(dir, 0o755);
  process.seteuid!(65534);
  try {
    await body();
  } finally {
    process.seteuid!(0);
  }
}

test(
  "Lock creates a file without the thread pool in a directory known to be local",
  async () => {
    using dir = tempDir();
    const mode = { ...parseMode("x+"), noFollow: true };
    const first = await platform().open(join(dir.path, "a"), mode, 0o600);
    first.closeSync();
    assert.ok(platform().isLocalDirectory(dir.path));
    const second = platform().open(join(dir.path, "b"), mode, 0o600);
    assert.ok(!(second instanceof Promise));
    second.closeSync();
  },
  "file descriptors",
);

test("Lock on a FIFO does not hang", async () => {
  using dir = tempDir();
  const path = join(dir.path, "fifo");
  execFileSync("mkfifo", [path]);
  await fails(path, { message: /ENXIO|FIFO/ });
  assert.equal(openDescriptors(dir.path), 0);
}, "mkfifo(1)");

test(
  "Lock on a FIFO that can be opened locks it",
  async () => {
    using dir = tempDir();
    const path = join(dir.path, "fifo");
    execFileSync("mkfifo", [path]);
    for (const mode of ["r", "r+", "w+", "a+"] as const) {
      await succeeds(path, { mode });
    }
  },
  "file descriptors",
  "mkfifo(1)",
);

test("Lock locks a device", async () => {
  await succeeds("/dev/null");
  await succeeds("/dev/null", { mode: "w+" });
}, "lockable devices");

test("Lock's modes create, keep and truncate as fopen(3) does, under the lock", async () => {
  const table = {
    // mode: [creates a missing file, content of an existing file afterwards]
    r: [false, "old"],
    "r+": [false, "old"],
    w: [true, ""],
    "w+": [true, ""],
    a: [true, "old"],
    "a+": [true, "old"],
    x: [true, null],
    "x+": [true, null],
  } as const;
  for (const [mode, [creates, content]] of Object.entries(table)) {
    using dir = tempDir();
    const path = join(dir.path, "file");
    const options = { mode: mode as keyof typeof table, timeout: 0 };
    if (creates) await new Lock(path, options).run(() => {});
    else await fails(path, { code: "ENOENT" }, options);
    assert.equal(fs.existsSync(path), creates, mode);
    fs.writeFileSync(path, "old");
    await using held = await new Lock(path, { mode: "r" }).acquire();
    if (content === null) {
      await fails(path, { code: "EEXIST" }, options);
    } else {
      await fails(path, { name: "AlreadyLocked" }, options);
      assert.equal(fs.readFileSync(path, "utf8"), "old", `${mode}: too early`);
      await held.close();
      await succeeds(path, options);
      assert.equal(fs.readFileSync(path, "utf8"), content, mode);
      fs.writeFileSync(path, "old");
      new Lock(path, options).acquireSync().closeSync();
      assert.equal(fs.readFileSync(path, "utf8"), content, mode);
    }
  }
});

test("Lock creates files with creationMode minus the umask", async () => {
  using dir = tempDir();
  const mode = (name: string) => fs.statSync(join(dir.path, name)).mode & 0o777;
  const umask = process.umask();
  await succeeds(join(dir.path, "default"));
  await succeeds(join(dir.path, "private"), { creationMode: 0o600 });
  assert.equal(mode("default"), 0o666 & ~umask);
  assert.equal(mode("private"), 0o600);
  await succeeds(join(dir.path, "private"), { creationMode: 0o644 });
  assert.equal(mode("private"), 0o600, "an existing file keeps its mode");
}, "permission bits");
