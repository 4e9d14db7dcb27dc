import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import * as api from "../../mod.ts";
import {
  type AtomicFile,
  BoundedSemaphore,
  Lock,
  lock,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
  lockAll,
  type LockBase,
  type LockedFile,
  lockHolders,
  type LockOptions,
  lockSync,
  NamedBoundedSemaphore,
  openAtomic,
  PidFileLock,
  RLock,
  TemporaryFileLock,
  unlock,
  updateFile,
  writeAtomic,
  writeAtomicSync,
} from "../../mod.ts";
import { atEdge } from "../../src/core/stack.ts";
import type { PlatformFile } from "../../ffi/types.ts";
import { Unsupported } from "../../ffi/types.ts";
import {
  ErrorTable,
  Fixture,
  publicFunctions,
  thrownBy,
} from "../support/caller_line.ts";
import { hasCapability } from "../support/capabilities.ts";
import { currentRuntime } from "../support/env.ts";
import {
  holdAsOther,
  systemError,
  withPatchedFiles,
  withPatchedPlatform,
} from "../support/platform.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { at, entry } from "../support/values.ts";
import { SHORT_WAIT_MS } from "../support/waits.ts";

/** A folder of its own for each row. */
class Files extends Fixture {
  readonly directory: string = this.keep(tempDir()).path;
  readonly path: string = join(this.directory, "a.lock");
  /** Cannot be created, because its directory does not exist. */
  readonly missing: string = join(this.directory, "missing", "a.lock");
  /** Exists, so that nothing can be created below it. */
  readonly notDirectory: string = join(this.directory, "file");
}

const table = new ErrorTable(() => new Files());

const posix = hasCapability("POSIX error codes");

// What each row prepares.

const WRONG = { timeout: -1 };
const UNKNOWN = { patience: 1 } as object;
const BYTES = new Uint8Array(4);

/** Held through another object. */
async function held(files: Files, options?: LockOptions): Promise<string> {
  files.keep(await new Lock(files.path, options).acquire());
  return files.path;
}

/** An operation of every open file fails. */
function failing(
  files: Files,
  operation: keyof PlatformFile,
  code = "EIO",
): Promise<void> {
  const fail = () => {
    throw systemError(code, 5);
  };
  return patched(
    files,
    (body) => withPatchedFiles(() => ({ [operation]: fail }), body),
  );
}

function patched(
  files: Files,
  patch: (body: () => Promise<void>) => Promise<void>,
): Promise<void> {
  return new Promise((ready, failed) => {
    const whole = patch(() =>
      new Promise((done) => {
        files.after(() => (done(), whole));
        ready();
      })
    );
    whole.catch(failed);
  });
}

function open(files: Files, mode: LockOptions["mode"] = "a+") {
  return new Lock(files.path, { mode }).acquire().then((file) =>
    files.keep(file)
  );
}

async function closed(files: Files): Promise<LockedFile> {
  const file = await open(files);
  await file.close();
  return file;
}

/** An operation fails in the system. */
async function broken(
  files: Files,
  operation: keyof PlatformFile,
): Promise<LockedFile> {
  fs.writeFileSync(files.path, "text");
  await failing(files, operation);
  return await open(files, "r+");
}

/** A file that is said to be so large. */
async function large(files: Files): Promise<LockedFile> {
  await patched(
    files,
    (body) => withPatchedFiles(() => ({ seek: () => 2 ** 60 }), body),
  );
  return await open(files);
}

/** Releasing any of them fails. */
async function stuck(
  files: Files,
  make: typeof Lock | typeof RLock = Lock,
): Promise<Lock | RLock> {
  await failing(files, "unlock");
  const lock = new make(files.path, { throwOnReleaseError: true });
  await lock.acquire();
  return lock;
}

async function stuckTwice(files: Files): Promise<BoundedSemaphore> {
  await failing(files, "unlock");
  const { directory } = files;
  const options = { directory, throwOnReleaseError: true };
  const semaphore = new BoundedSemaphore(2, options);
  await semaphore.acquire();
  await semaphore.acquire();
  return semaphore;
}

function fdOf(files: Files, path: string): number {
  const fd = fs.openSync(path, "a+");
  files.after(() => fs.closeSync(fd));
  return fd;
}

async function atomic(files: Files): Promise<AtomicFile> {
  return files.keep(await openAtomic(files.path));
}

/** Another program has created the file meanwhile. */
async function overtaken(files: Files): Promise<AtomicFile> {
  const file = await atomic(files);
  fs.writeFileSync(files.path, "");
  return file;
}

async function discarded(files: Files): Promise<AtomicFile> {
  const file = await atomic(files);
  await file.discard();
  return file;
}

async function reader(files: Files): Promise<LockedFile> {
  const options: LockOptions = { mode: "a+", flags: LOCK_SH | LOCK_NB };
  files.keep(await new Lock(files.path, options).acquire());
  return files.keep(await new Lock(files.path, options).acquire());
}

function deny(): never {
  throw new Unsupported("this runtime cannot lock");
}

/** A path on a runtime that cannot lock. */
async function noLocking(files: Files): Promise<string> {
  const denied = { open: deny, openSync: deny, fromFd: deny, holders: deny };
  await patched(files, (body) => withPatchedPlatform(() => denied, body));
  return files.path;
}

const path = ({ path }: Files) => path;

// Constructors.

const wrong = () => 1 as never;
const zero = () => 0;

table.row("Lock", "TypeError", wrong, (path) => new Lock(path));
table.row("Lock", "TypeError", path, (path) => new Lock(path, UNKNOWN));
table.row("Lock", "RangeError", () => "", (path) => new Lock(path));
table.row("Lock", "RangeError", path, (path) => new Lock(path, WRONG));
table.row("Lock", "ERR_INVALID_URL_SCHEME", () => {
  return new URL("http://localhost/a.lock");
}, (url) => new Lock(url));
table.row("RLock", "TypeError", wrong, (path) => new RLock(path));
table.row("RLock", "RangeError", path, (path) => new RLock(path, WRONG));
table.row("TemporaryFileLock", "TypeError", wrong, (path) => {
  return new TemporaryFileLock(path);
});
table.row("TemporaryFileLock", "RangeError", path, (path) => {
  return new TemporaryFileLock(path, WRONG);
});
table.row("PidFileLock", "TypeError", wrong, (path) => new PidFileLock(path));
table.row("PidFileLock", "RangeError", path, (path) => {
  return new PidFileLock(path, { flags: LOCK_SH });
});
table.row("BoundedSemaphore", "TypeError", wrong, (maximum) => {
  return new BoundedSemaphore(maximum, UNKNOWN);
});
table.row("BoundedSemaphore", "RangeError", zero, (maximum) => {
  return new BoundedSemaphore(maximum);
});
table.row("NamedBoundedSemaphore", "TypeError", wrong, (maximum) => {
  return new NamedBoundedSemaphore(maximum, UNKNOWN);
});
table.row("NamedBoundedSemaphore", "RangeError", zero, (maximum) => {
  return new NamedBoundedSemaphore(maximum);
});

// LockBase.

/** Each kind of lock, while another object holds it. */
const CONTENDED: ((files: Files) => LockBase | Promise<LockBase>)[] = [
  async (files: Files) => new Lock(await held(files)),
  async (files: Files) => new RLock(await held(files)),
  (files: Files) => {
    files.keep(new TemporaryFileLock(files.path)).acquireSync();
    return new TemporaryFileLock(files.path);
  },
  (files: Files) => {
    files.keep(new PidFileLock(files.path)).acquireSync();
    return new PidFileLock(files.path);
  },
  (files: Files) => {
    const options = { directory: files.directory, name: "a" };
    files.keep(new BoundedSemaphore(1, options)).acquireSync();
    return new BoundedSemaphore(1, options);
  },
];
/** Each of them, on a path that cannot be opened. */
const UNREACHABLE: ((files: Files) => LockBase)[] = [
  ({ missing }: Files) => new Lock(missing),
  ({ missing }: Files) => new RLock(missing),
  ({ missing }: Files) => new TemporaryFileLock(missing),
  ({ missing }: Files) => new PidFileLock(missing),
  ({ missing }: Files) => new BoundedSemaphore(1, { directory: missing }),
];
const AT_ONCE = { timeout: 0 };
const SOON = { timeout: SHORT_WAIT_MS, failWhenLocked: false };

for (const prepare of CONTENDED) {
  table.row("Acquirable.acquire", "AlreadyLocked", prepare, async (lock) => {
    await lock.acquire(AT_ONCE);
  });
  table.row("Acquirable.acquire", "AlreadyLocked", prepare, async (lock) => {
    await lock.acquire(SOON);
  });
  table.row("LockBase.acquireSync", "AlreadyLocked", prepare, (lock) => {
    lock.acquireSync(AT_ONCE);
  });
  table.row("LockBase.acquireSync", "AlreadyLocked", prepare, (lock) => {
    lock.acquireSync(SOON);
  });
  table.row("Acquirable.run", "AlreadyLocked", prepare, async (lock) => {
    await lock.run(() => {}, AT_ONCE);
  });
  table.row("Acquirable.run", "AlreadyLocked", prepare, async (lock) => {
    await lock.run(() => {}, SOON);
  });
}

/** The file system does not answer. */
async function silent(files: Files): Promise<Lock> {
  const open = () => new Promise<never>(() => {});
  await patched(files, (body) => withPatchedPlatform(() => ({ open }), body));
  return new Lock(files.path, SOON);
}
table.row("Acquirable.acquire", "ETIMEDOUT", silent, async (lock) => {
  await lock.acquire();
});
table.row("Acquirable.tryAcquire", "ETIMEDOUT", silent, async (lock) => {
  await lock.tryAcquire();
});
table.row("Acquirable.run", "ETIMEDOUT", silent, async (lock) => {
  await lock.run(() => {});
});
table.row("lockAll", "ETIMEDOUT", silent, async ({ path }) => {
  await lockAll([path], SOON);
});
table.row("updateFile", "ETIMEDOUT", silent, async ({ path }) => {
  await updateFile(path, String, SOON);
});

const refused = async (files: Files) => {
  await failing(files, "tryLock", "ENOLCK");
  return new Lock(files.path);
};
const unsupported = async (files: Files) => {
  await failing(files, "tryLock", "ENOSYS");
  return new Lock(files.path);
};
const SYSTEM_ERRORS = [
  ...UNREACHABLE.map((prepare) => ["ENOENT", prepare] as const),
  ["LockException", refused] as const,
  ["LockUnsupported", unsupported] as const,
];
for (const [error, prepare] of SYSTEM_ERRORS) {
  table.row("Acquirable.acquire", error, prepare, async (lock) => {
    await lock.acquire();
  });
  table.row("LockBase.acquireSync", error, prepare, (lock) => {
    lock.acquireSync();
  });
  table.row("Acquirable.tryAcquire", error, prepare, async (lock) => {
    await lock.tryAcquire();
  });
  table.row("LockBase.tryAcquireSync", error, prepare, (lock) => {
    lock.tryAcquireSync();
  });
  table.row("Acquirable.run", error, prepare, async (lock) => {
    await lock.run(() => {});
  });
}
for (
  const [error, options] of [["TypeError", UNKNOWN], [
    "RangeError",
    WRONG,
  ]] as const
) {
  const prepare = ({ path }: Files) => ({ lock: new Lock(path), options });
  table.row("Acquirable.acquire", error, prepare, async ({ lock, options }) => {
    await lock.acquire(options);
  });
  table.row("LockBase.acquireSync", error, prepare, ({ lock, options }) => {
    lock.acquireSync(options);
  });
  table.row("Acquirable.run", error, prepare, async ({ lock, options }) => {
    await lock.run(() => {}, options);
  });
}
table.row(
  "Acquirable.run",
  "TypeError",
  ({ path }) => new Lock(path),
  async (lock) => {
    await lock.run(1 as never);
  },
);
table.row("Acquirable.run", "LockException", async (files) => {
  // Afterwards the path is known to be local, so `run` acquires without a wait.
  await new Lock(files.path).run(() => {});
  await failing(files, "unlock");
  return new Lock(files.path, { throwOnReleaseError: true });
}, async (lock) => {
  await lock.run(() => delay(1));
});
table.row("Acquirable.release", "LockException", stuck, async (lock) => {
  await lock.release();
});
table.row("LockBase.releaseSync", "LockException", stuck, (lock) => {
  lock.releaseSync();
});
table.row(
  "LockBase.[Symbol.asyncDispose]",
  "LockException",
  stuck,
  async (lock) => {
    await lock[Symbol.asyncDispose]();
  },
);
table.row("LockBase.[Symbol.dispose]", "LockException", stuck, (lock) => {
  lock[Symbol.dispose]();
});
table.row(
  "LockBase.[Symbol.asyncDispose]",
  "AggregateError",
  stuckTwice,
  async (lock) => {
    await lock[Symbol.asyncDispose]();
  },
);
table.row("LockBase.[Symbol.dispose]", "AggregateError", stuckTwice, (lock) => {
  lock[Symbol.dispose]();
});

// RLock and PidFileLock.

const free = ({ path }: Files) => new RLock(path);
table.row("RLock.release", "LockException", free, async (lock) => {
  await lock.release();
});
table.row("RLock.releaseSync", "LockException", free, (lock) => {
  lock.releaseSync();
});
const stuckReentrant = (files: Files) => stuck(files, RLock);
table.row("RLock.release", "LockException", stuckReentrant, async (lock) => {
  await lock.release();
});
table.row("RLock.releaseSync", "LockException", stuckReentrant, (lock) => {
  lock.releaseSync();
});
table.row("RLock.run", "TypeError", free, async (lock) => {
  await lock.run(1 as never);
});
table.row(
  "RLock.run",
  "ENOENT",
  ({ missing }) => new RLock(missing),
  async (lock) => {
    await lock.run(() => {});
  },
);
table.row("Acquirable.run", "LockException", async (files) => {
  await failing(files, "unlock");
  return new Lock(files.path, { throwOnReleaseError: true });
}, async (lock) => {
  await lock.run(() => delay(1));
});
table.row("RLock.run", "LockException", async (files) => {
  await failing(files, "unlock");
  return new RLock(files.path, { throwOnReleaseError: true });
}, async (lock) => {
  await lock.run(() => delay(1));
});
for (const kind of [Lock, RLock]) {
  const of = kind === Lock ? "Acquirable.run" : "RLock.run";
  table.row(of, "SuppressedError", async (files) => {
    await failing(files, "unlock");
    return new kind(files.path, { throwOnReleaseError: true });
  }, async (lock) => {
    await lock.run(() => delay(1).then(() => Promise.reject(null)));
  });
}
const pidPath = ({ notDirectory }: Files) => {
  fs.writeFileSync(notDirectory, "");
  return new PidFileLock(join(notDirectory, "a.pid"));
};
// On Windows, the file is missing, so both return `null`.
if (posix) {
  table.row("PidFileLock.readPid", "ENOTDIR", pidPath, async (lock) => {
    await lock.readPid();
  });
  table.row("PidFileLock.readPidSync", "ENOTDIR", pidPath, (lock) => {
    lock.readPidSync();
  });
}

// lockAll() and LockedFiles.

table.row("lockAll", "AlreadyLocked", held, async (path) => {
  await lockAll([path], { timeout: 0 });
});
table.row("lockAll", "AlreadyLocked", held, async (path) => {
  await lockAll([path], { timeout: SHORT_WAIT_MS });
});
table.row("lockAll", "ENOENT", ({ missing }) => missing, async (path) => {
  await lockAll([path]);
});
table.row("lockAll", "LockException", refused, async ({ path }) => {
  await lockAll([path]);
});
table.row("lockAll", "LockUnsupported", unsupported, async ({ path }) => {
  await lockAll([path]);
});
table.row("lockAll", "TypeError", wrong, async (paths) => {
  await lockAll(paths);
});
table.row("lockAll", "RangeError", path, async (path) => {
  await lockAll([path], WRONG);
});
const stuckFiles = async (files: Files) => {
  await failing(files, "unlock");
  return await lockAll([files.path], { throwOnReleaseError: true });
};
table.row("LockedFiles.close", "AggregateError", stuckFiles, async (files) => {
  await files.close();
});
table.row("LockedFiles.closeSync", "AggregateError", stuckFiles, (files) => {
  files.closeSync();
});
table.row(
  "LockedFiles.[Symbol.asyncDispose]",
  "AggregateError",
  stuckFiles,
  async (files) => {
    await files[Symbol.asyncDispose]();
  },
);
table.row(
  "LockedFiles.[Symbol.dispose]",
  "AggregateError",
  stuckFiles,
  (files) => {
    files[Symbol.dispose]();
  },
);

// lock(), lockSync(), unlock(), lockHolders().

/** Without FFI Deno does not lock descriptors. */
const busyFd = hasCapability("file descriptors")
  ? "AlreadyLocked"
  : "LockUnsupported";
const badFd = hasCapability("file descriptors")
  ? "LockException"
  : "LockUnsupported";
const lockedFd = async (files: Files) => fdOf(files, await held(files));
const closedFd = (files: Files) => {
  const fd = fs.openSync(files.path, "a+");
  fs.closeSync(fd);
  return fd;
};
table.row("lock", busyFd, lockedFd, async (fd) => {
  await lock(fd, LOCK_EX | LOCK_NB);
});
table.row("lockSync", busyFd, lockedFd, (fd) => {
  lockSync(fd, LOCK_EX | LOCK_NB);
});
table.row("lock", badFd, closedFd, async (fd) => {
  await lock(fd, LOCK_EX);
});
table.row("lockSync", badFd, closedFd, (fd) => {
  lockSync(fd, LOCK_EX);
});
table.row("unlock", badFd, closedFd, (fd) => {
  unlock(fd);
});
table.row("lock", "TypeError", () => "a" as never, async (fd) => {
  await lock(fd, LOCK_EX);
});
table.row("lockSync", "TypeError", () => "a" as never, (fd) => {
  lockSync(fd, LOCK_EX);
});
table.row("unlock", "TypeError", () => "a" as never, (fd) => {
  unlock(fd);
});
table.row("lock", "RangeError", () => -1, async (fd) => {
  await lock(fd, LOCK_EX);
});
table.row("lockSync", "RangeError", () => -1, (fd) => {
  lockSync(fd, LOCK_EX);
});
table.row("unlock", "RangeError", () => -1, (fd) => {
  unlock(fd);
});
table.row("lock", "LockUnsupported", noLocking, async () => {
  await lock(0, LOCK_EX);
});
table.row("lockSync", "LockUnsupported", noLocking, () => {
  lockSync(0, LOCK_EX);
});
table.row("unlock", "LockUnsupported", noLocking, () => {
  unlock(0);
});
table.row("lockHolders", "LockUnsupported", async (files) => {
  fs.writeFileSync(files.path, "");
  return await noLocking(files);
}, async (path) => {
  await lockHolders(path);
});
table.row("lockHolders", "ENOENT", ({ missing }) => missing, async (path) => {
  await lockHolders(path);
});
table.row("lockHolders", "TypeError", wrong, async (path) => {
  await lockHolders(path);
});
table.row("lockHolders", "RangeError", () => "", async (path) => {
  await lockHolders(path);
});

// OpenFile.

/** Each operation of an open file. */
const OPERATIONS: Record<string, (file: LockedFile) => unknown> = {
  read: async (file) => await file.read(BYTES),
  readSync: (file) => {
    file.readSync(BYTES);
  },
  write: async (file) => await file.write(BYTES),
  writeSync: (file) => {
    file.writeSync(BYTES);
  },
  readText: async (file) => await file.readText(),
  readTextSync: (file) => {
    file.readTextSync();
  },
  readBytes: async (file) => await file.readBytes(),
  readBytesSync: (file) => {
    file.readBytesSync();
  },
  writeText: async (file) => await file.writeText("text"),
  writeTextSync: (file) => {
    file.writeTextSync("text");
  },
  replaceContents: async (file) => await file.replaceContents("text"),
  replaceContentsSync: (file) => {
    file.replaceContentsSync("text");
  },
  seek: async (file) => await file.seek(0),
  seekSync: (file) => {
    file.seekSync(0);
  },
  truncate: async (file) => await file.truncate(),
  truncateSync: (file) => {
    file.truncateSync();
  },
  sync: async (file) => await file.sync(),
  syncSync: (file) => {
    file.syncSync();
  },
  syncData: async (file) => await file.syncData(),
  syncDataSync: (file) => {
    file.syncDataSync();
  },
  stat: async (file) => await file.stat(),
  statSync: (file) => {
    file.statSync();
  },
};
/** What each asks the system for, where its name is another. */
const SYSTEM_CALLS: Record<string, keyof PlatformFile> = {
  readText: "read",
  readBytes: "read",
  readTextSync: "readSync",
  readBytesSync: "readSync",
  writeText: "write",
  writeTextSync: "writeSync",
  replaceContents: "write",
  replaceContentsSync: "writeSync",
  seekSync: "seek",
  syncData: "sync",
  syncDataSync: "syncSync",
};
for (const [name, operation] of Object.entries(OPERATIONS)) {
  const called = SYSTEM_CALLS[name] ?? name as keyof PlatformFile;
  table.row(`OpenFile.${name}`, "EBADF", closed, operation);
  table.row(
    `OpenFile.${name}`,
    "EIO",
    (files) => broken(files, called),
    operation,
  );
}
const unreadable = (files: Files) => open(files, "a");
const unwritable = (files: Files) => {
  fs.writeFileSync(files.path, "");
  return open(files, "r");
};
for (const name of ["read", "readText", "readBytes"]) {
  table.row(`OpenFile.${name}`, "EBADF", unreadable, entry(OPERATIONS, name));
  table.row(
    `OpenFile.${name}Sync`,
    "EBADF",
    unreadable,
    entry(OPERATIONS, `${name}Sync`),
  );
}
for (const name of ["write", "writeText", "replaceContents", "truncate"]) {
  table.row(`OpenFile.${name}`, "EBADF", unwritable, entry(OPERATIONS, name));
  table.row(
    `OpenFile.${name}Sync`,
    "EBADF",
    unwritable,
    entry(OPERATIONS, `${name}Sync`),
  );
}
for (const name of ["readText", "readBytes"]) {
  table.row(`OpenFile.${name}`, "EFBIG", large, entry(OPERATIONS, name));
  table.row(
    `OpenFile.${name}Sync`,
    "EFBIG",
    large,
    entry(OPERATIONS, `${name}Sync`),
  );
}
table.row(
  "OpenFile.read",
  "TypeError",
  (files) => open(files),
  async (file) => {
    await file.read(1 as never);
  },
);
table.row("OpenFile.readSync", "TypeError", (files) => open(files), (file) => {
  file.readSync(1 as never);
});
table.row(
  "OpenFile.write",
  "TypeError",
  (files) => open(files),
  async (file) => {
    await file.write(1 as never);
  },
);
table.row("OpenFile.writeSync", "TypeError", (files) => open(files), (file) => {
  file.writeSync(1 as never);
});
table.row(
  "OpenFile.writeText",
  "TypeError",
  (files) => open(files),
  async (file) => {
    await file.writeText(1 as never);
  },
);
table.row(
  "OpenFile.writeTextSync",
  "TypeError",
  (files) => open(files),
  (file) => {
    file.writeTextSync(1 as never);
  },
);
table.row(
  "OpenFile.replaceContents",
  "TypeError",
  (files) => open(files),
  async (file) => {
    await file.replaceContents(1 as never);
  },
);
table.row(
  "OpenFile.replaceContentsSync",
  "TypeError",
  (files) => open(files),
  (file) => {
    file.replaceContentsSync(1 as never);
  },
);
table.row(
  "OpenFile.seek",
  "TypeError",
  (files) => open(files),
  async (file) => {
    await file.seek("a" as never);
  },
);
table.row("OpenFile.seekSync", "TypeError", (files) => open(files), (file) => {
  file.seekSync("a" as never);
});
table.row(
  "OpenFile.seek",
  "RangeError",
  (files) => open(files),
  async (file) => {
    await file.seek(0.5);
  },
);
table.row("OpenFile.seekSync", "RangeError", (files) => open(files), (file) => {
  file.seekSync(0.5);
});
table.row(
  "OpenFile.truncate",
  "RangeError",
  (files) => open(files),
  async (file) => {
    await file.truncate(-1);
  },
);
table.row(
  "OpenFile.truncateSync",
  "RangeError",
  (files) => open(files),
  (file) => {
    file.truncateSync(-1);
  },
);

// LockedFile.

const CHANGES = [
  ["EBADF", closed, LOCK_EX, {}],
  ["AlreadyLocked", reader, LOCK_EX | LOCK_NB, {}],
  ["AlreadyLocked", reader, LOCK_EX, SOON],
  ["RangeError", reader, LOCK_UN, {}],
  ["RangeError", reader, LOCK_EX, WRONG],
  ["TypeError", reader, LOCK_EX, UNKNOWN],
] as const;
for (const [error, prepare, flags, options] of CHANGES) {
  table.row("LockedFile.relock", error, prepare, async (file) => {
    await file.relock(flags, options);
  });
  table.row("LockedFile.relockSync", error, prepare, (file) => {
    file.relockSync(flags, options);
  });
}
const unchangeable = async (files: Files) => {
  const lock = new RLock(files.path, { mode: "a+" });
  files.keep(await lock.acquire());
  return files.keep(await lock.acquire());
};
table.row("LockedFile.relock", "ENOTSUP", unchangeable, async (file) => {
  await file.relock(LOCK_SH);
});
table.row("LockedFile.relockSync", "ENOTSUP", unchangeable, (file) => {
  file.relockSync(LOCK_SH);
});
const unconvertible = async (files: Files) => {
  let fails = false;
  await patched(files, (body) =>
    withPatchedFiles((real) => ({
      tryLock(exclusive) {
        if (fails) throw systemError("ENOLCK", 37);
        return real.tryLock(exclusive);
      },
    }), body));
  const options = { mode: "a+", flags: LOCK_SH | LOCK_NB } as const;
  const file = files.keep(await new Lock(files.path, options).acquire());
  fails = true;
  return file;
};
table.row("LockedFile.relock", "ENOLCK", unconvertible, async (file) => {
  await file.relock(LOCK_EX, { checkInterval: 1 });
});
table.row("LockedFile.relockSync", "ENOLCK", unconvertible, (file) => {
  file.relockSync(LOCK_EX, { checkInterval: 1 });
});
const stuckFile = async (files: Files) => {
  await failing(files, "unlock");
  return await new Lock(files.path, { throwOnReleaseError: true }).acquire();
};
table.row("LockedFile.close", "LockException", stuckFile, async (file) => {
  await file.close();
});
table.row("LockedFile.closeSync", "LockException", stuckFile, (file) => {
  file.closeSync();
});
table.row(
  "LockedFile.[Symbol.asyncDispose]",
  "LockException",
  stuckFile,
  async (file) => {
    await file[Symbol.asyncDispose]();
  },
);
table.row("LockedFile.[Symbol.dispose]", "LockException", stuckFile, (file) => {
  file[Symbol.dispose]();
});

// Atomic writing.

table.row("AtomicFile.commit", "AlreadyExists", overtaken, async (file) => {
  await file.commit();
});
table.row("AtomicFile.commitSync", "AlreadyExists", overtaken, (file) => {
  file.commitSync();
});
table.row("AtomicFile.commit", "LockException", discarded, async (file) => {
  await file.commit();
});
table.row("AtomicFile.commitSync", "LockException", discarded, (file) => {
  file.commitSync();
});
const unsynced = async (files: Files) => {
  await failing(files, "sync");
  return await atomic(files);
};
const unsyncedSync = async (files: Files) => {
  await failing(files, "syncSync");
  return await atomic(files);
};
table.row("AtomicFile.commit", "EIO", unsynced, async (file) => {
  await file.commit();
});
table.row("AtomicFile.commitSync", "EIO", unsyncedSync, (file) => {
  file.commitSync();
});
const existing = ({ path }: Files) => (fs.writeFileSync(path, ""), path);
const directory = ({ directory }: Files) => directory;
const notDirectory = ({ notDirectory }: Files) => {
  fs.writeFileSync(notDirectory, "");
  return join(notDirectory, "a.txt");
};
const WRITES = [
  ["AlreadyExists", existing],
  [posix ? "ENOTDIR" : "ENOENT", notDirectory],
  ["TypeError", wrong],
  ["RangeError", () => ""],
  ["LockUnsupported", noLocking],
] as const;
for (const [error, prepare] of WRITES) {
  table.row<string>("openAtomic", error, prepare, async (path) => {
    await openAtomic(path);
  });
  table.row<string>("openAtomic", error, prepare, async (path) => {
    await openAtomic(path, {}, () => {});
  });
  table.row<string>("writeAtomic", error, prepare, async (path) => {
    await writeAtomic(path, "text");
  });
  table.row<string>("writeAtomicSync", error, prepare, (path) => {
    writeAtomicSync(path, "text");
  });
}
const REPLACE = { replace: true };
table.row("openAtomic", "LockException", directory, async (path) => {
  await openAtomic(path, REPLACE);
});
table.row("writeAtomic", "LockException", directory, async (path) => {
  await writeAtomic(path, "text", REPLACE);
});
table.row("writeAtomicSync", "LockException", directory, (path) => {
  writeAtomicSync(path, "text", REPLACE);
});
table.row("openAtomic", "TypeError", path, async (path) => {
  await openAtomic(path, {}, 1 as never);
});
table.row("openAtomic", "AlreadyExists", path, async (path) => {
  await openAtomic(path, {}, () => fs.writeFileSync(path, ""));
});
table.row("writeAtomic", "TypeError", path, async (path) => {
  await writeAtomic(path, 1 as never);
});
table.row("writeAtomicSync", "TypeError", path, (path) => {
  writeAtomicSync(path, 1 as never);
});
table.row("updateFile", "AlreadyLocked", async (files) => {
  files.keep(await new Lock(`${files.path}.lock`).acquire());
  return files.path;
}, async (path) => {
  await updateFile(path, (text) => text, { timeout: SHORT_WAIT_MS });
});
table.row("updateFile", "LockException", ({ path }) => {
  fs.writeFileSync(path, new Uint8Array([0xff]));
  return path;
}, async (path) => {
  await updateFile(path, (text) => text);
});
table.row("updateFile", "LockException", directory, async (path) => {
  await updateFile(path, () => "text");
});
table.row("updateFile", "LockUnsupported", noLocking, async (path) => {
  await updateFile(path, () => "text");
});
table.row(
  "updateFile",
  posix ? "ENOTDIR" : "ENOENT",
  notDirectory,
  async (path) => {
    await updateFile(path, () => "text");
  },
);
table.row("updateFile", "TypeError", wrong, async (path) => {
  await updateFile(path, () => "text");
});
table.row("updateFile", "TypeError", path, async (path) => {
  await updateFile(path, 1 as never);
});
table.row("updateFile", "TypeError", path, async (path) => {
  await updateFile(path, () => 1 as never);
});
table.row("updateFile", "RangeError", path, async (path) => {
  await updateFile(path, () => "text", { encoding: "latin1" as never });
});

/** Public functions that throw nothing, or nothing of their own. */
const THROW_NOTHING = [
  ...posix ? [] : ["PidFileLock.readPid", "PidFileLock.readPidSync"],
  // Each is a part of a public function of its class.
  "Acquirable.busyHere",
  "Acquirable.releaseLatest",
  "Acquirable.startAcquire",
  "Acquirable.throwBusy",
  "Acquirable.throwIfLost",
  "Acquirable.turnBefore",
  "LockBase.attempt",
  "LockBase.attemptAsync",
  "LockBase.end",
  "LockBase.latest",
  "LockBase.startDeadline",
  "LockBase.subject",
  "LockedFile.end",
  "LockedFile.endSync",
  "RLock.startAcquire",
  // They construct or convert errors.
  "AlreadyExists",
  "AlreadyLocked",
  "AlreadyLocked.toJSON",
  "FileTooLarge",
  "LockException",
  "LockException.[Symbol.hasInstance]",
  "LockException.toJSON",
  "LockLostError",
  "LockUnsupported",
  // Only the library constructs them.
  "Acquirable",
  "AtomicFile",
  "LockBase",
  "LockedFile",
  "LockedFiles",
  "OpenFile",
  // They return what is there.
  "LockedFiles.[Symbol.iterator]",
  "LockedFiles.at",
  // What they cannot remove stays for the next `openAtomic`.
  "AtomicFile.[Symbol.asyncDispose]",
  "AtomicFile.[Symbol.dispose]",
  "AtomicFile.discard",
  "AtomicFile.discardSync",
  // Releasing in Redis does not fail. `LockBase` overrides it.
  "Acquirable.[Symbol.asyncDispose]",
];

for (const name of table.functions) {
  test(`the stack of what ${name} throws begins with its caller`, () =>
    table.check(name));
}

test("each public function is in the table of error stacks", () => {
  const known = [...table.functions, ...THROW_NOTHING].sort();
  assert.deepEqual(known, publicFunctions(api));
});

test("errors that the caller made keep their stacks", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const lock = new Lock(path);
  const mine = () => new Error("the caller's");
  const controller = new AbortController();
  const reason = mine();
  controller.abort(reason);
  const { signal } = controller;
  const later = new AbortController();
  const laterReason = mine();
  using _held = await holdAsOther(() => lock.acquireSync());
  const errors = {
    run: mine(),
    onWait: mine(),
    onWaitSync: mine(),
    change: mine(),
    atomic: mine(),
    paths: mine(),
  };
  const fail = (error: Error) => () => {
    throw error;
  };
  const stacks = new Map<Error, string | undefined>();
  for (const error of [reason, laterReason, ...Object.values(errors)]) {
    stacks.set(error, error.stack);
  }
  const other = join(dir.path, "b.lock");
  const fresh = join(dir.path, "c.txt");
  setTimeout(() => later.abort(laterReason), 20);
  const calls: [Error, (_: undefined) => unknown][] = [
    [reason, async () => await lock.acquire({ signal })],
    [reason, () => {
      lock.acquireSync({ signal });
    }],
    [reason, async () => await lock.run(() => {}, { signal })],
    [
      laterReason,
      async () => await new Lock(path).acquire({ signal: later.signal }),
    ],
    [errors.run, async () => await new Lock(other).run(fail(errors.run))],
    [errors.run, async () => await new RLock(other).run(fail(errors.run))],
    [errors.onWait, async () => {
      await new Lock(path).acquire({ onWait: fail(errors.onWait) });
    }],
    [errors.onWaitSync, () => {
      new Lock(path).acquireSync({ onWait: fail(errors.onWaitSync) });
    }],
    [errors.change, async () => await updateFile(other, fail(errors.change))],
    [
      errors.atomic,
      async () => await openAtomic(fresh, {}, fail(errors.atomic)),
    ],
    [errors.paths, async () => {
      await lockAll({ [Symbol.iterator]: fail(errors.paths) });
    }],
  ];
  for (const [error, call] of calls) {
    assert.equal(await thrownBy(call, undefined), error, String(call));
    assert.equal(error.stack, stacks.get(error), String(call));
    assert.equal(error.cause, undefined);
  }
});

test("an error of the runtime keeps its class, its fields and its inner frames", async () => {
  using dir = tempDir();
  const path = join(dir.path, "missing", "a.lock");
  const error = await thrownBy(() => new Lock(path).acquireSync(), undefined);
  assert.ok(error instanceof Error);
  const { code, cause } = error as Error & { code?: string };
  assert.equal(code, "ENOENT");
  assert.equal(Object.keys(error).includes("cause"), false);
  assert.ok(cause instanceof Error);
  assert.equal(cause.message, error.message);
  assert.match(cause.stack!, /openSync|Deno/);
});

test("a caller that does not await a promise is in the stack of its error", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  using _held = new Lock(path).acquireSync();
  let error: unknown;
  function caller() {
    const promise = new Lock(path).acquire(SOON);
    promise.catch((reason) => error = reason);
    return "not the promise";
  }
  caller();
  while (error === undefined) await delay(5);
  assert.ok(error instanceof Error);
  assert.match(
    error.stack!,
    /^AlreadyLocked: Cannot lock [^]*?\n {4}at caller /,
  );
});

test("a function that returns the call is in the stack, except on Bun, which makes a tail call", async () => {
  using dir = tempDir();
  const lock = new Lock(join(dir.path, "missing", "a.lock"));
  const calls = [
    function tail() {
      return lock.acquireSync();
    },
    function tail() {
      return lock.acquire();
    },
  ];
  for (const call of calls) {
    const { stack } = await thrownBy(call, undefined) as Error;
    const first = currentRuntime.name === "bun" ? "thrownBy" : "tail";
    const line = at(stack!.split(/\n {4}at /), 1);
    assert.match(line, new RegExp(`\\b${first} `));
  }
});

test("errors are thrown whatever was done to stacks", async () => {
  using dir = tempDir();
  const lock = new Lock(join(dir.path, "missing", "a.lock"));
  const call = () => {
    lock.acquireSync();
  };
  const later = async () => {
    await lock.acquire();
  };
  const { stackTraceLimit, prepareStackTrace } = Error;
  const changes: (() => void)[] = [
    () => Error.stackTraceLimit = 0,
    () => Error.stackTraceLimit = undefined as never,
    () => Error.prepareStackTrace = (error) => `${error}`,
    () => Error.prepareStackTrace = (_, sites) => sites,
  ];
  for (const change of changes) {
    const errors: unknown[] = [];
    change();
    try {
      errors.push(await thrownBy(call, undefined));
      errors.push(await thrownBy(later, undefined));
    } finally {
      Error.stackTraceLimit = stackTraceLimit;
      if (prepareStackTrace) Error.prepareStackTrace = prepareStackTrace;
      else delete (Error as { prepareStackTrace?: unknown }).prepareStackTrace;
    }
    for (const error of errors) {
      assert.equal((error as { code?: string }).code, "ENOENT", String(change));
    }
  }
});

test("an error that is frozen, or not an Error, is thrown as it is", () => {
  for (const error of [Object.freeze(new Error("frozen")), "text", null]) {
    const edge = () => {
      return atEdge(edge, () => {
        throw error;
      });
    };
    assert.throws(edge, (thrown) => thrown === error);
  }
});
