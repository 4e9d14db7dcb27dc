import assert from "node:assert/strict";
import * as fs from "node:fs";
import { join } from "node:path";
import { posixConstants } from "../../ffi/posix/constants.ts";
import { thisRuntime } from "../../ffi/mod.ts";
import { posix } from "../../ffi/posix/posix.ts";
import { compileC } from "../support/compile.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

for (const arch of ["x64", "arm64"]) {
  test(
    `posix: this runtime locks and reads structs on an imitation of macOS ${arch}`,
    () => {
      using dir = tempDir();
      const options = [
        "-shared",
        "-fPIC",
        ...arch === "x64" ? ["-DINTEL"] : [],
      ];
      using library = compileC("libsystem.c", "cc", ...options);
      const constants = posixConstants("darwin", arch)!;
      const system = posix(thisRuntime(), { ...constants, libc: library.path });
      const path = join(dir.path, "a.lock");
      const open = () => fs.openSync(path, "a+");
      const [ours, theirs] = [open(), open()];

      const range = { start: 7, length: 2 ** 40 };
      for (const name of ["flock", "ofd"] as const) {
        const locker = system.locker(
          name === "flock" ? { name } : { name, range },
        );
        assert.equal(locker.tryLock(ours, true), true);
        assert.equal(locker.tryLock(theirs, true), false, name);
        assert.equal(locker.tryLock(theirs, false), false, name);
        locker.lock(ours, false);
        assert.equal(locker.tryLock(theirs, false), true, "both share");
        assert.equal(locker.tryLock(theirs, true), false, name);
        locker.unlock(ours);
        locker.lock(theirs, true);
        locker.unlock(theirs);
        const error = { errno: 9, syscall: name === "ofd" ? "fcntl" : "flock" };
        const message = "error 9 of a Mac";
        assert.throws(() => locker.tryLock(-1, true), { ...error, message });
      }
      const bytes = (start: number, length: number) =>
        system.locker({ name: "ofd", range: { start, length } });
      assert.equal(bytes(0, 8).tryLock(ours, true), true);
      assert.equal(bytes(7, 1).tryLock(theirs, true), false);
      assert.equal(bytes(8, 1).tryLock(theirs, true), true);
      const process = system.locker({ name: "lockf", range });
      assert.equal(
        process.tryLock(ours, true),
        false,
        "the open file description holds it",
      );
      bytes(0, 9).unlock(ours);
      bytes(0, 9).unlock(theirs);
      assert.equal(process.tryLock(ours, true), true);

      const append = (text: string) => {
        fs.writeSync(ours, text);
        return fs.readFileSync(path, "utf8");
      };
      fs.writeFileSync(path, "abcd");
      system.setAppend!(ours, false);
      system.seek(ours, 1, 0);
      assert.equal(append("x"), "axcd");
      system.setAppend!(ours, true);
      assert.equal(append("y"), "axcdy");
      assert.throws(() => system.setAppend!(-1, true), {
        errno: 9,
        syscall: "fcntl",
      });

      const stat = fs.fstatSync(ours, { bigint: true });
      assert.equal(system.inode!(ours), stat.ino);
      assert.equal(system.lockKey(ours), `${stat.dev}:${stat.ino}`);
      assert.equal(
        system.isFile(ours, fs.lstatSync(path, { bigint: true })),
        true,
      );
      assert.equal(system.isLocal?.(ours), true);
      const proc = fs.openSync("/proc/self/stat", "r");
      assert.equal(system.isLocal?.(proc), false);
      assert.equal(system.seek(ours, 5, 0), 5);
      assert.equal(system.holders(ours, true), null);
      assert.equal(system.watchClose(ours, () => {}), null);
      for (const fd of [ours, theirs, proc]) fs.closeSync(fd);
    },
    "cc(1) on Linux",
    "file descriptors",
  );
}
