import assert from "node:assert/strict";
import { once } from "node:events";
import { join } from "node:path";
import process from "node:process";
import { Worker } from "node:worker_threads";
import { AlreadyExists, AlreadyLocked, FileTooLarge, Lock } from "../../mod.ts";
import { LockException, LockUnsupported, PidFileLock } from "../../mod.ts";
import { hasCapability } from "../support/capabilities.ts";
import { currentRuntime } from "../support/env.ts";
import { systemError, withPatchedFiles } from "../support/platform.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { firstItems } from "../support/values.ts";

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
  assert.deepEqual(names, ["LockUnsupported", "AlreadyExists", "FileTooLarge"]);
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
