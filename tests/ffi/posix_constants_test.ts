import assert from "node:assert/strict";
import {
  type PosixConstants,
  posixConstants,
} from "../../ffi/posix/constants.ts";
import * as common from "../../ffi/posix/constants.ts";
import * as linux from "../../ffi/linux/constants.ts";
import { littleEndian } from "../../ffi/runtime/memory.ts";
import { compileC } from "../support/compile.ts";
import { runScript } from "../support/processes.ts";
import { test } from "../support/test.ts";

type Plain = Omit<PosixConstants, "device" | "inode" | "isLocal">;

/** From errno.h, fcntl.h and the symbols of the C library of Linux. */
const LINUX: Plain = {
  libc: "libc.so.6",
  errnoLocation: "__errno_location",
  strerror: "__xpg_strerror_r",
  fstat: "fstat",
  EINTR: 4,
  EWOULDBLOCK: 11,
  EACCES: 13,
  O_APPEND: 0o2000,
  recordLocks: {
    lockf: { set: 6, wait: 7 },
    ofd: { set: 37, wait: 38, get: 36 },
    F_RDLCK: 0,
    F_WRLCK: 1,
    F_UNLCK: 2,
    offsets: { type: 0, whence: 2, start: 8, length: 16 },
  },
  variadicPadding: 0,
  linux: true,
};

/**
 * From sys/errno.h, sys/fcntl.h and sys/cdefs.h of XNU. Apple's calling
 * convention for arm64 passes the variadic argument of fcntl(2) on the stack,
 * as it does for a ninth argument.
 */
const APPLE: Plain = {
  libc: "/usr/lib/libSystem.B.dylib",
  errnoLocation: "__error",
  strerror: "strerror_r",
  fstat: "fstat",
  fstatfs: "fstatfs",
  EINTR: 4,
  EWOULDBLOCK: 35,
  EACCES: 13,
  O_APPEND: 0x8,
  recordLocks: {
    lockf: { set: 8, wait: 9 },
    ofd: { set: 90, wait: 91, get: 92 },
    F_RDLCK: 1,
    F_WRLCK: 3,
    F_UNLCK: 2,
    offsets: { type: 20, whence: 22, start: 0, length: 8 },
  },
  variadicPadding: 6,
  linux: false,
};

/** The calling convention for x64 passes the third argument in a register. */
const INTEL_MAC: Plain = {
  ...APPLE,
  fstat: "fstat$INODE64",
  fstatfs: "fstatfs$INODE64",
  variadicPadding: 0,
};

/** From sys/stat.h and sys/mount.h of XNU: each field and its size in bytes. */
const APPLE_STRUCTS = {
  flock: "l_start:8 l_len:8 l_pid:4 l_type:2 l_whence:2",
  stat: "st_dev:4 st_mode:2 st_nlink:2 st_ino:8 st_uid:4 st_gid:4 st_rdev:4 " +
    "st_atimespec:8 st_atime_ns:8 st_mtimespec:8 st_mtime_ns:8",
  statfs: "f_bsize:4 f_iosize:4 f_blocks:8 f_bfree:8 f_bavail:8 f_files:8 " +
    "f_ffree:8 f_fsid:4 f_fsid_high:4 f_owner:4 f_type:4 f_flags:4",
};

/** From asm-generic/fcntl.h and asm/stat.h. */
const LINUX_STRUCTS = {
  flock: "l_type:2 l_whence:2 l_start:8 l_len:8 l_pid:4",
  stat: "st_dev:8 st_ino:8 st_nlink:8 st_mode:4 st_uid:4 st_gid:4",
};

const SYSTEMS = {
  "linux x64": [LINUX, LINUX_STRUCTS],
  "linux arm64": [LINUX, {
    ...LINUX_STRUCTS,
    stat: "st_dev:8 st_ino:8 st_mode:4 st_nlink:4 st_uid:4 st_gid:4",
  }],
  "darwin x64": [INTEL_MAC, APPLE_STRUCTS],
  "darwin arm64": [APPLE, APPLE_STRUCTS],
} as const;

/** Returns the offsets of the fields: each is a multiple of the size. */
function layout(fields: string): Map<string, { at: number; size: number }> {
  const fieldsByName = new Map<string, { at: number; size: number }>();
  let end = 0;
  for (const field of fields.split(" ")) {
    const [name = "", bytes] = field.split(":");
    const size = Number(bytes);
    const at = Math.ceil(end / size) * size;
    fieldsByName.set(name, { at, size });
    end = at + size;
  }
  return fieldsByName;
}

/** Creates a struct whose bytes all differ, to read and write its fields. */
function fakeStruct(fields: string) {
  const bytes = new Uint8Array(256).map((_, i) => i + 1);
  const view = new DataView(bytes.buffer);
  const fieldsByName = layout(fields);
  const value = (name: string) => {
    const { at, size } = fieldsByName.get(name)!;
    return size === 8
      ? view.getBigUint64(at, littleEndian)
      : BigInt(view.getUint32(at, littleEndian));
  };
  const set = (name: string, number: number) =>
    view.setUint32(fieldsByName.get(name)!.at, number, littleEndian);
  return { view, value, set };
}

for (const [name, [expected, structs]] of Object.entries(SYSTEMS)) {
  const [platform, arch] = name.split(" ");
  const constants = posixConstants(platform, arch)!;

  test(`posix: the constants of ${name} equal those of its headers`, () => {
    const { device: _d, inode: _i, isLocal: _l, ...plain } = constants;
    assert.deepEqual(plain, expected);
  });

  test(`posix: the structs of ${name} are read at the offsets of its headers`, () => {
    const { type, whence, start, length } = constants.recordLocks.offsets;
    const flock = layout(structs.flock);
    assert.deepEqual(
      [type, whence, start, length],
      ["l_type", "l_whence", "l_start", "l_len"].map((f) => flock.get(f)!.at),
    );
    const stat = fakeStruct(structs.stat);
    assert.equal(constants.device(stat.view), stat.value("st_dev"));
    assert.equal(constants.inode(stat.view), stat.value("st_ino"));
    // Linux has a mount table instead.
    assert.equal(constants.isLocal === undefined, platform === "linux");
    if (!("statfs" in structs)) return;
    const local = fakeStruct(structs.statfs);
    const remote = fakeStruct(structs.statfs);
    local.set("f_flags", 0x1000);
    remote.set("f_flags", 0xffffefff);
    assert.equal(constants.isLocal?.(local.view), true);
    assert.equal(constants.isLocal?.(remote.view), false);
  });
}

/** Returns the constants of the package, by the names that `c/constants.c` prints. */
function packageConstants(): Record<string, number> {
  const { recordLocks: records, ...system } = posixConstants()!;
  const { offsets } = records;
  const numbers = {
    LOCK_SH: common.LOCK_SH,
    LOCK_EX: common.LOCK_EX,
    LOCK_NB: common.LOCK_NB,
    LOCK_UN: common.LOCK_UN,
    EINTR: system.EINTR,
    EACCES: system.EACCES,
    EAGAIN: system.EWOULDBLOCK,
    EWOULDBLOCK: system.EWOULDBLOCK,
    O_APPEND: system.O_APPEND,
    F_GETFL: common.F_GETFL,
    F_SETFL: common.F_SETFL,
    F_SETLK: records.lockf.set,
    F_SETLKW: records.lockf.wait,
    F_OFD_GETLK: records.ofd.get,
    F_OFD_SETLK: records.ofd.set,
    F_OFD_SETLKW: records.ofd.wait,
    F_RDLCK: records.F_RDLCK,
    F_WRLCK: records.F_WRLCK,
    F_UNLCK: records.F_UNLCK,
    "flock.l_type": offsets.type,
    "flock.l_type size": 2,
    "flock.l_whence": offsets.whence,
    "flock.l_start": offsets.start,
    "flock.l_start size": 8,
    "flock.l_len": offsets.length,
    "flock.l_len size": 8,
  };
  if (!system.linux) {
    return {
      ...numbers,
      "stat.st_dev": 0,
      "stat.st_dev size": 4,
      "stat.st_ino": 8,
      "stat.st_ino size": 8,
      "statfs.f_flags": 64,
      MNT_LOCAL: 0x1000,
    };
  }
  const { INOTIFY_EVENT: event, ...extras } = linux;
  return {
    ...numbers,
    ...extras,
    "stat.st_dev": 0,
    "stat.st_dev size": 8,
    "stat.st_ino": 8,
    "stat.st_ino size": 8,
    "inotify_event.wd": event.wd,
    "inotify_event.mask": event.mask,
    "inotify_event.len": event.length,
    "inotify_event.name": event.name,
    "pollfd.fd": 0,
    "pollfd.events": 4,
    "struct pollfd size": 8,
  };
}

for (const compiler of ["cc", "musl-gcc"] as const) {
  test(
    `posix: the constants for this machine equal those of ${compiler}(1)`,
    async () => {
      using program = compileC("constants.c", compiler);
      const { stdout } = await runScript([program.path]);
      const theirs = Object.fromEntries(
        stdout.trim().split("\n").map((line) => {
          const space = line.lastIndexOf(" ");
          return [line.slice(0, space), Number(line.slice(space))];
        }),
      );
      const ours = packageConstants();
      const same = Object.keys(ours).map((name) => [name, theirs[name]]);
      assert.deepEqual(Object.fromEntries(same), ours);
      // The package allocates this much memory for each.
      const limits = {
        "struct flock size": 64,
        "struct stat size": 4096,
        "struct statfs size": 4096,
        "pthread_key_t size": 8,
      };
      for (const [name, limit] of Object.entries(limits)) {
        assert.ok(Number(theirs[name]) <= limit, name);
      }
    },
    `${compiler}(1)`,
  );
}
