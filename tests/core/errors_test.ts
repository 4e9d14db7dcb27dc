import assert from "node:assert/strict";
import { once } from "node:events";
import { join } from "node:path";
import process from "node:process";
import { Worker } from "node:worker_threads";
import { AlreadyExists, AlreadyLocked, FileTooLarge, Lock } from "../../mod.ts";
import {
  LockException,
  LockLostError,
  LockUnsupported,
  PidFileLock,
} from "../../mod.ts";
import type { LockOptions } from "../../mod.ts";
import { suppressedError } from "../../src/core/errors.ts";
import { REASONS } from "../support/abort_reasons.ts";
import { hasCapability } from "../support/capabilities.ts";
import { currentRuntime } from "../support/env.ts";
import { systemError, withPatchedFiles } from "../support/platform.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { firstItems } from "../support/values.ts";

test("a message contains no character that a terminal obeys", () => {
  using dir = tempDir();
  const names = [
    "line\nbreak",
    "\x1b[2Jescape",
    "\x9b2Jsequence",
    "\u202egnol",
    "delete\x7f",
    "paragraph\u2029",
    "tag\u{e0041}",
  ];
  for (const name of names) {
    const path = join(dir.path, name);
    const { message } = thrownBy(() => {
      using _held = new Lock(path).acquireSync();
      new Lock(path).acquireSync({ timeout: 0 });
    });
    assert.match(message, /^Cannot lock ".+": /);
    assert.doesNotMatch(message, /[\p{C}\p{Zl}\p{Zp}]/u, JSON.stringify(name));
    const option = { [name]: true } as LockOptions;
    const unknown = thrownBy(() => new Lock("a", option));
    assert.doesNotMatch(unknown.message, /[\p{C}\p{Zl}\p{Zp}]/u);
    const mode = thrownBy(() => new Lock("a", { mode: name } as LockOptions));
    assert.doesNotMatch(mode.message, /[\p{C}\p{Zl}\p{Zp}]/u);
  }
}, "line breaks and quotes in file names");

function thrownBy(call: () => unknown): Error {
  try {
    call();
  } catch (error) {
    return error as Error;
  }
  assert.fail("nothing was thrown");
}

/** One error of each class, with the fields that the library sets. */
async function errors(path: string): Promise<LockException[]> {
  const thrown = (code: string) =>
    withPatchedFiles(() => ({
      tryLock() {
        throw systemError(code, 37);
      },
    }), () => new Lock(path).acquire().catch((error) => error));
  await using _held = await new Lock(path).acquire();
  return [
    await new Lock(path, { timeout: 0 }).acquire().catch((error) => error),
    await thrown("ENOLCK"),
    await thrown("ENOSYS"),
    new AlreadyExists("Cannot create a.txt: it exists", { path }),
    new FileTooLarge("Cannot read a.txt", { path }),
    new LockLostError("Lost the lock on a.lock", { path }),
  ];
}

test("errors across a worker boundary: a structured clone keeps message and name", async () => {
  using dir = tempDir();
  for (const error of await errors(join(dir.path, "a.lock"))) {
    const clone = structuredClone(error);
    assert.ok(clone instanceof Error);
    assert.equal(clone.message, error.message);
    const beginning = `${error.name}: ${error.message}`;
    assert.equal(clone.stack!.slice(0, beginning.length), beginning);
  }
});

test("errors across a worker boundary: toJSON() keeps every field", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const all = await errors(path);
  const [locked, failed, unsupported] = firstItems(all, 3);
  const others = all.slice(3);
  const { message } = locked;
  const known = { path, fd: undefined, errno: undefined };
  const { holder, holderPid, waited } = locked as AlreadyLocked;
  assert.equal(holderPid, holder?.pid ?? null);
  assert.deepEqual(structuredClone(locked.toJSON()), {
    name: "AlreadyLocked",
    message,
    code: "EWOULDBLOCK",
    ...known,
    holder,
    holderPid,
    waited,
  });
  const { code, errno } = failed;
  assert.deepEqual(failed.toJSON(), {
    ...{ name: "LockException", message: failed.message, ...known },
    ...{ code: "ENOLCK", errno: 37 },
  });
  assert.deepEqual([code, errno], ["ENOLCK", 37]);
  assert.ok(unsupported instanceof LockUnsupported);
  const names = [unsupported, ...others].map((error) => error.toJSON().name);
  assert.deepEqual(names, [
    ...["LockUnsupported", "AlreadyExists", "FileTooLarge", "LockLostError"],
  ]);
});

test("each error class of this package has a code, also if the caller passes none", () => {
  const classes = [
    [AlreadyLocked, "EWOULDBLOCK"],
    [AlreadyExists, "EEXIST"],
    [FileTooLarge, "EFBIG"],
    [LockUnsupported, "ERR_LOCK_UNSUPPORTED"],
    [LockLostError, "ERR_LOCK_LOST"],
  ] as const;
  for (const [ErrorClass, code] of classes) {
    assert.equal(new ErrorClass("Cannot lock").code, code);
    assert.equal(new ErrorClass("Cannot lock", { code: undefined }).code, code);
    assert.equal(new ErrorClass("Cannot lock", { code: "EIO" }).code, "EIO");
    assert.equal(new ErrorClass("Cannot lock").name, ErrorClass.name);
    assert.ok(new ErrorClass("Cannot lock") instanceof LockException);
  }
});

test("errors across a worker boundary: the constructors restore errors from JSON", async () => {
  using dir = tempDir();
  const [locked] = firstItems(await errors(join(dir.path, "a.lock")), 1);
  const received = JSON.parse(JSON.stringify({ locked })).locked;
  assert.equal(received.name, "AlreadyLocked");
  const again = new AlreadyLocked(received.message, received);
  assert.deepEqual(again.toJSON(), locked.toJSON());
  assert.ok(again instanceof LockException);
});

test("errors across a worker boundary: a worker reports the holder of the lock", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.pid");
  await using _held = await new PidFileLock(path).acquire();
  const thread = new Worker(
    new URL(
      `../fixtures/failing_lock_thread${currentRuntime.extension}`,
      import.meta.url,
    ),
    { workerData: path },
  );
  const [{ error, details }] = await once(thread, "message");
  await thread.terminate();
  assert.ok(error instanceof Error);
  // A PID from a file is never reported as that of this process.
  const holderPid = hasCapability("inotify(7)") ? process.pid : null;
  const by = holderPid === null ? " \\(" : ` by this process ${holderPid} `;
  assert.match(error.message, new RegExp(`: already locked${by}`));
  assert.match(error.stack!, /^AlreadyLocked: Cannot lock/);
  assert.equal(details.message, error.message);
  assert.equal(details.name, "AlreadyLocked");
  assert.equal(details.code, "EWOULDBLOCK");
  assert.equal(details.path, `${path}.lock`);
  assert.equal(details.holderPid, holderPid);
});

test("a release that fails after another error leaves both errors, on each runtime", () => {
  const scope = globalThis as { SuppressedError?: unknown };
  const native = scope.SuppressedError as (new () => Error) | undefined;
  try {
    for (const available of [native, undefined]) {
      scope.SuppressedError = available;
      for (const suppressed of REASONS) {
        const release = new LockException("Cannot release a.lock");
        const both = suppressedError(release, suppressed) as SuppressedError;
        assert.ok(both instanceof Error);
        assert.equal(both.name, "SuppressedError");
        assert.equal(both.error, release);
        assert.ok(Object.is(both.suppressed, suppressed));
        assert.ok(Object.is(both.cause, suppressed));
        assert.match(both.message, /^Cannot release a.lock; it suppressed an/);
        if (available) assert.ok(both instanceof available);
        assert.deepEqual(Object.keys(both), []);
      }
    }
  } finally {
    scope.SuppressedError = native;
    if (native === undefined) delete scope.SuppressedError;
  }
});
