import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import {
  type PosixConstants,
  posixConstants,
} from "../../ffi/posix/constants.ts";
import { fdPlatform } from "../../ffi/file/fd_platform.ts";
import { setPlatformForTesting } from "../../ffi/mod.ts";
import { noThreadExit } from "../../ffi/runtime/thread_exit.ts";
import { Lock } from "../../mod.ts";
import { recordLocks } from "../../ffi/posix/fcntl.ts";
import { posix } from "../../ffi/posix/posix.ts";
import { Unsupported } from "../../ffi/types.ts";
import type {
  CValue,
  FfiRuntime,
  OsLocks,
  Signature,
} from "../../ffi/types.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { noopOs } from "../support/platform.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";

const linux = posixConstants("linux", "x64")!;

/** Creates a fake C library whose locks fail with each of these errno values. */
function failingLibc(...errnos: number[]) {
  const calls: CValue[][] = [];
  let errno = 0;
  const fail = (...values: CValue[]) => {
    // A copy, because the memory of the struct is reused.
    calls.push(values.map((v) => typeof v === "object" ? v.slice() : v));
    errno = errnos.shift() ?? 0;
    return errno === 0 ? 0 : -1;
  };
  const fakes: Record<string, (...values: CValue[]) => number> = {
    flock: fail,
    fcntl: fail,
    lseek: () => (errno = 22, -1),
    __xpg_strerror_r(code, buffer) {
      new TextEncoder().encodeInto(`words ${code}\0`, buffer as Uint8Array);
      return 0;
    },
  };
  const types: Record<string, Signature> = {};
  const runtime: FfiRuntime = {
    name: "a fake",
    bind(_, functions) {
      Object.assign(types, functions);
      return Object.fromEntries(
        Object.keys(functions).map((name) => [name, fakes[name]]),
      ) as ReturnType<FfiRuntime["bind"]>;
    },
    errno: () => () => errno,
  };
  const on = (constants: PosixConstants) => posix(runtime, constants);
  return { system: on(linux), on, calls, types };
}

test(
  "posix: tryLock() returns false for a busy lock, and throws any other error with code and message",
  () => {
    const { system } = failingLibc(11, 9, 37, 38, 95, 9999);
    assert.equal(system.tryLock(3, true), false);
    for (
      const [errno, code] of [
        [9, "EBADF"],
        [37, "ENOLCK"],
        [38, "ENOSYS"],
        [95, "EOPNOTSUPP"],
        [9999, "errno 9999"],
      ] as const
    ) {
      assert.throws(() => system.tryLock(3, true), {
        code,
        errno,
        syscall: "flock",
        message: `words ${errno}`,
      });
    }
    assert.equal(system.tryLock(3, true), true);
    const blocking = failingLibc(11, 11).system;
    const busy = { code: "EWOULDBLOCK" };
    assert.throws(
      () => blocking.lock(3, true),
      busy,
      "lock() does not return without the lock",
    );
    assert.throws(() => blocking.unlock(3), busy);
    assert.throws(() => system.seek(3, 0, 0), { code: "EINVAL", errno: 22 });
  },
  "Linux errno values",
);

test("posix: every call is repeated after EINTR", () => {
  const { system, calls } = failingLibc(4, 4, 0, 4, 11, 4, 0, 4, 0);
  assert.equal(system.tryLock(3, true), true);
  assert.equal(system.tryLock(3, false), false);
  system.lock(3, true);
  system.unlock(3);
  assert.deepEqual(
    calls.map(([fd, operation]) => [fd, operation]),
    [6, 6, 6, 5, 5, 2, 2, 8, 8].map((operation) => [3, operation]),
  );
});

for (const name of ["ofd", "lockf"] as const) {
  test(`posix: ${name} returns false if busy, and repeats EINTR`, () => {
    const { system, calls } = failingLibc(11, 13, 4, 11, 4, 0, 37, 9, 22);
    const locker = system.locker({ name });
    assert.equal(locker.tryLock(3, true), false, "EAGAIN");
    assert.equal(locker.tryLock(3, true), false, "EACCES");
    assert.equal(locker.tryLock(3, true), false, "EINTR, then EAGAIN");
    assert.equal(locker.tryLock(3, true), true, "EINTR, then success");
    assert.equal(calls.length, 6);
    for (
      const [errno, code] of [[37, "ENOLCK"], [9, "EBADF"], [22, "EINVAL"]]
    ) {
      const error = {
        code,
        errno,
        syscall: "fcntl",
        message: `words ${errno}`,
      };
      assert.throws(() => locker.tryLock(3, true), error);
    }
    const blocking = failingLibc(4, 4, 0, 35, 11, 13, 11).system.locker({
      name,
    });
    blocking.lock(3, false);
    assert.throws(() => blocking.lock(3, true), { code: /^EDEADL/ });
    for (const code of ["EWOULDBLOCK", "EACCES"]) {
      assert.throws(() => blocking.lock(3, true), { code }, "not locked");
    }
    assert.throws(() => blocking.unlock(3), { code: "EWOULDBLOCK" });
  }, "Linux errno values");
}

test("posix: record locks are assumed to exist unless the system reports none", () => {
  const { F_UNLCK, F_RDLCK, F_WRLCK } = linux.recordLocks;
  const queries: [number, number, boolean][] = [
    [0, F_UNLCK, false],
    [0, F_RDLCK, true],
    [0, F_WRLCK, true],
    [22, F_UNLCK, true],
  ];
  for (const [errno, kind, expected] of queries) {
    const fcntl = (...values: CValue[]) => {
      const { buffer } = values.at(-1) as Uint8Array;
      new Int16Array(buffer)[0] = kind;
      return errno === 0 ? 0 : -1;
    };
    const runtime = { bind: () => ({ fcntl }) } as unknown as FfiRuntime;
    const fail = () => assert.fail("a failed query must not throw");
    const records = recordLocks(runtime, linux, () => errno, fail);
    assert.equal(records.present(3), expected, `${errno} ${kind}`);
  }
});

/** The documented layouts, and the constants for them. */
const LAYOUTS = {
  linux: {
    commands: { ofd: [37, 38], lockf: [6, 7], query: 36 },
    kinds: [0, 1, 2],
    struct: (type: bigint, start: bigint, length: bigint) => [
      type,
      start,
      length,
      0n,
    ],
  },
  darwin: {
    commands: { ofd: [90, 91], lockf: [8, 9], query: 92 },
    kinds: [1, 3, 2],
    struct: (type: bigint, start: bigint, length: bigint) => [
      start,
      length,
      type << 32n,
    ],
  },
};

for (const [platform, { commands, kinds, struct }] of Object.entries(LAYOUTS)) {
  test(`posix: fcntl(2) is called with the constants and structs of ${platform}`, () => {
    const { on, calls } = failingLibc();
    const system = on(posixConstants(platform, "x64")!);
    for (const name of ["ofd", "lockf"] as const) {
      for (const range of [undefined, { start: 2 ** 40, length: 7 }]) {
        calls.length = 0;
        const locker = system.locker({ name, ...range && { range } });
        locker.tryLock(5, false);
        locker.lock(6, true);
        locker.unlock(7);
        const [attempt, wait] = commands[name];
        const sent = calls.map(([fd, command, memory]) => [
          fd,
          command,
          ...new BigUint64Array((memory as Uint8Array).buffer, 0, 4),
        ]);
        const { start, length } = range ?? { start: 0, length: 0 };
        const bytes = (kind: number) => {
          const words = struct(BigInt(kind), BigInt(start), BigInt(length));
          return [...words, 0n].slice(0, 4);
        };
        assert.deepEqual(sent, [
          [5, attempt, ...bytes(at(kinds, 0))],
          [6, wait, ...bytes(at(kinds, 1))],
          [7, attempt, ...bytes(at(kinds, 2))],
        ]);
      }
    }
  });
}

test("posix: the variadic argument of fcntl(2) is passed on the stack on Apple arm64", () => {
  const signature = (platform: string, arch: string) => {
    const { on, calls, types } = failingLibc();
    const system = on(posixConstants(platform, arch)!);
    system.locker({ name: "ofd" }).tryLock(3, true);
    const values = at(calls, 0);
    const { parameters } = types.fcntl ?? assert.fail("not bound");
    assert.equal(values.length, parameters.length);
    assert.ok(values.at(-1) instanceof Uint8Array);
    return parameters;
  };
  // There are eight registers, so the ninth argument is the first on the stack.
  const fill = Array(6).fill("i64");
  const padded = ["i32", "i32", ...fill, "buffer"];
  assert.deepEqual(signature("darwin", "arm64"), padded);
  const unpadded = ["i32", "i32", "buffer"];
  assert.deepEqual(signature("darwin", "x64"), unpadded);
  assert.deepEqual(signature("linux", "arm64"), unpadded);
  assert.deepEqual(signature("linux", "x64"), unpadded);
});

test("posix: the inode is read by __fxstat if an old glibc does not export fstat", () => {
  const calls: string[] = [];
  const runtime: FfiRuntime = {
    name: "a fake",
    bind: (_, functions) => {
      const names = Object.keys(functions);
      if (names.includes("fstat")) throw new Error("undefined symbol: fstat");
      return Object.fromEntries(names.map((name) => [name, (...values) => {
        calls.push(name);
        const stat = values.at(-1) as Uint8Array;
        new BigUint64Array(stat.buffer)[1] = 4711n;
        return 0;
      }])) as ReturnType<FfiRuntime["bind"]>;
    },
    errno: () => () => 0,
  };
  assert.equal(posix(runtime, linux).inode!(7), 4711n);
  assert.deepEqual(calls, ["__fxstat"]);
});

test("posix: constants exist only for 64-bit Linux and macOS", () => {
  for (const arch of ["x64", "arm64", "riscv64"]) {
    assert.equal(posixConstants("linux", arch)?.EWOULDBLOCK, 11);
    assert.equal(posixConstants("darwin", arch)?.EWOULDBLOCK, 35);
  }
  for (const arch of ["arm", "ia32"]) {
    assert.equal(posixConstants("linux", arch), null);
  }
  const others = ["win32", "sunos", "freebsd", "openbsd", "netbsd", "aix"];
  for (const system of [...others, "android"]) {
    assert.equal(posixConstants(system, "x64"), null, system);
  }
});

/** Creates a fake operating system that only returns inodes. */
function systemWith(inode: (fd: number) => bigint, isLocal = true): OsLocks {
  return {
    ...noopOs,
    locker: () => assert.fail("another locker must not be requested"),
    tryLock: () => assert.fail("no file must be locked"),
    lock: () => assert.fail("no file must be locked"),
    unlock: () => {},
    seek: () => 0,
    isLocal: () => isLocal,
    inode,
  };
}

test("a file descriptor that is not that of the system is never locked", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const mode = {
    read: true,
    write: true,
    append: true,
    create: true,
    exclusive: false,
  };
  const files = fdPlatform(systemWith(() => 1n));
  assert.throws(() => files.openSync(path, mode, 0o600), Unsupported);
  await assert.rejects(async () => await files.open(path, mode, 0o600), {
    name: "Unsupported",
  });
  assert.equal(openDescriptors(dir.path), 0, "the file is closed");
  const fd = fs.openSync(path, "r");
  assert.throws(() => files.fromFd(fd), Unsupported);
  fs.closeSync(fd);
});

test("one verified file descriptor suffices, unless it is standard input", () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  fs.writeFileSync(path, "");
  const verified: number[] = [];
  const inode = (fd: number) => {
    verified.push(fd);
    return fs.fstatSync(fd, { bigint: true }).ino;
  };
  const files = fdPlatform(systemWith(inode));
  const fd = fs.openSync(path, "r");
  for (const each of [0, 0, fd, fd, 0]) files.fromFd(each);
  assert.deepEqual(verified, [0, 0, fd]);
  fs.closeSync(fd);
});

test("a path is opened on the thread after it is known to be local", async () => {
  using dir = tempDir();
  const mode = {
    read: true,
    write: false,
    append: false,
    create: true,
    exclusive: false,
  };
  for (const isLocal of [true, false]) {
    const path = join(dir.path, `local ${isLocal}`);
    const inode = (fd: number) => fs.fstatSync(fd, { bigint: true }).ino;
    const files = fdPlatform(systemWith(inode, isLocal));
    const first = files.open(path, mode, 0o600);
    assert.ok(first instanceof Promise, "unknown paths may be slow");
    const closing = (await first).close();
    assert.equal(closing instanceof Promise, !isLocal);
    await closing;
    const second = files.open(path, mode, 0o600);
    assert.equal(second instanceof Promise, !isLocal);
    await (await second).close();
  }
});

test("workers: a lock that the end of the thread could not release is refused", async () => {
  using dir = tempDir();
  const path = join(dir.path, "a.lock");
  const locker = {
    tryLock: () => assert.fail("it must not be locked"),
    lock() {},
    unlock() {},
    upgradeIsAtomic: true,
  };
  const os = { ...noopOs, ...locker, seek: () => 0, isLocal: () => true };
  const system = fdPlatform({ ...os, locker: () => locker }, () => {
    throw noThreadExit("pthread_key_create");
  });
  const previous = setPlatformForTesting(system);
  try {
    const error = { code: "EMFILE", message: /too many locks/ };
    await assert.rejects(new Lock(path).acquire(), error);
    assert.throws(() => new Lock(path).acquireSync(), error);
  } finally {
    setPlatformForTesting(previous);
  }
  assert.equal(openDescriptors(dir.path), 0, "the file is closed");
});
