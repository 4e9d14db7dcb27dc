import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { platform } from "../../ffi/mod.ts";
import {
  followLocal,
  MountTable,
  parseMounts,
} from "../../ffi/linux/mounts.ts";
import type { OpenMode } from "../../ffi/types.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";

/** A line of /proc/self/mountinfo. */
const mount = (point: string, type: string, options = "rw") =>
  `36 35 98:0 / ${point} rw,noatime shared:1 master:2 - ${type} none ${options}`;

const TABLE = parseMounts([
  mount("/", "ext4"),
  mount("/dev", "devtmpfs"),
  mount("/dev/shm", "tmpfs"),
  mount("/proc", "proc"),
  mount("/home", "nfs4"),
  mount("/home/local", "xfs"),
  mount("/mnt/with\\040space", "fuse.sshfs"),
  mount("/net", "autofs"),
  mount("/covered", "nfs"),
  mount("/covered", "ext4"),
].join("\n"));

const LINKS: Record<string, string> = {
  "/var/run": "/run",
  "/relative": "srv/../var/run/./x",
  "/to-home": "home",
  "/srv/up": "..",
  "/srv/loop": "loop",
  "/srv/not-utf8": "a\uFFFD",
};

/** Follows a path in a made-up file system and notes what it asks. */
function follow(path: string): { real: string | null; asked: string[] } {
  const asked: string[] = [];
  const readLink = (name: string) => (asked.push(name), LINKS[name]);
  return { real: followLocal("", path, TABLE, readLink), asked };
}

test("mounts: a path is followed through links as long as it is local", () => {
  const paths = {
    "/a/b.lock": "/a/b.lock",
    "//a/./b.lock": "/a/b.lock",
    "/var/run/a.lock": "/run/a.lock",
    "/relative/a.lock": "/run/x/a.lock",
    "/var/run/../a.lock": "/a.lock",
    "/srv/up/up/../../a.lock": "/a.lock",
    "/dev/shm/a.lock": "/dev/shm/a.lock",
    "/": "",
  };
  for (const [path, real] of Object.entries(paths)) {
    assert.equal(follow(path).real, real, path);
  }
});

test("mounts: nothing is asked at or below a mount that may be slow", () => {
  const paths = [
    "/home/me/a.lock",
    "/home/local/a.lock",
    "/home/../a.lock",
    "/to-home/me/a.lock",
    "/mnt/with space/a.lock",
    "/net/host/a.lock",
    "/proc/self/cwd/a.lock",
    "/covered/a.lock",
    "/srv/loop",
    "/srv/not-utf8",
  ];
  const slow = /^\/(home|mnt\/with space|net|proc|covered)/;
  for (const path of paths) {
    const { real, asked } = follow(path);
    assert.equal(real, null, path);
    assert.deepEqual(asked.filter((name) => slow.test(name)), [], path);
  }
});

test("mounts: without a mount table, nothing is local", () => {
  const readLink = () => assert.fail("nothing may be asked");
  for (const text of ["", mount("/data", "ext4"), "garbage\n\n - "]) {
    assert.equal(followLocal("", "/a", parseMounts(text), readLink), null);
  }
});

test("mounts: an overlay is as slow as the slowest of its layers", () => {
  const overlay = (options: string) =>
    parseMounts([
      mount("/", "ext4"),
      mount("/nfs", "nfs"),
      mount("/merged", "overlay", options),
    ].join("\n")).get("/merged");
  assert.equal(overlay("rw,lowerdir=/a:/b,upperdir=/c,workdir=/d"), true);
  assert.equal(overlay("rw,lowerdir=/a:/nfs/b,upperdir=/c,workdir=/d"), false);
  assert.equal(overlay("rw,lowerdir=/a,upperdir=/nfs,workdir=/nfs/d"), false);
  assert.equal(overlay("rw,lowerdir+=/a,lowerdir+=/nfs/b"), false);
  // A container lists the layers as the host names them.
  const root = mount("/", "overlay", "rw,lowerdir=/var/lib/a,upperdir=/b");
  assert.equal(parseMounts(root).get("/"), true);
});

const EXISTING = { exclusive: false } as OpenMode;

test("mounts: what is known is forgotten after a second", () => {
  let table = mount("/", "ext4");
  let reads = 0;
  const paths = new MountTable({
    read: () => (reads++, table),
    readLink: () => undefined,
  });
  const { now } = Date;
  let time = now();
  Date.now = () => time;
  try {
    assert.equal(paths.hasFile("/a/b", EXISTING), true);
    table += `\n${mount("/a", "fuse")}`;
    assert.equal(paths.hasFile("/a/b", EXISTING), true);
    assert.equal(reads, 1, "a known path costs no call");
    time += 1000;
    assert.equal(paths.hasFile("/a/b", EXISTING), false);
    table = mount("/", "ext4");
    // The clock is set back.
    time -= 100_000;
    assert.equal(paths.hasFile("/a/b", EXISTING), true);
  } finally {
    Date.now = now;
  }
});

test("mounts: a new mount is noticed when a path is used for the first time", () => {
  let table = mount("/", "ext4");
  const paths = new MountTable({
    read: () => table,
    readLink: () => undefined,
  });
  assert.equal(paths.hasFile("/a/b", EXISTING), true);
  table += `\n${mount("/c", "fuse")}`;
  // A short table is read again in the next millisecond.
  for (const start = Date.now(); Date.now() === start;);
  assert.equal(paths.hasFile("/c/d", EXISTING), false);
  assert.equal(paths.hasDirectory("/c"), false);
  assert.equal(paths.hasFile("/c/d", { exclusive: true }), false);
});

test(
  "mounts: the paths of this machine are found, relative ones and links too",
  () => {
    using dir = tempDir();
    const known = (path: string) => platform().isLocalDirectory(path);
    assert.equal(known(dir.path), true);
    assert.equal(known(join(dir.path, "missing")), true);
    for (const slow of ["/proc/self", "/sys", "/dev/pts"]) {
      assert.equal(known(slow), false, slow);
      fs.symlinkSync(slow, join(dir.path, slow.replaceAll("/", "-")));
      const link = join(dir.path, slow.replaceAll("/", "-"));
      assert.equal(known(join(link, "a")), false, link);
    }
    const before = process.cwd();
    try {
      process.chdir(dir.path);
      assert.equal(known("a"), true);
      process.chdir("/proc");
      assert.equal(known("b"), false);
    } finally {
      process.chdir(before);
    }
  },
  "/proc",
  "file descriptors",
);

test(
  "mounts: a file system that has just been mounted is local or not by its type",
  () => {
    using dir = tempDir();
    const known = (path: string) => platform().isLocalDirectory(path);
    for (const [type, local] of [["tmpfs", true], ["proc", false]] as const) {
      const path = join(dir.path, type);
      fs.mkdirSync(path);
      assert.equal(known(dir.path), true);
      spawnSync("mount", ["-t", type, "none", path]);
      try {
        assert.equal(known(path), local, type);
      } finally {
        spawnSync("umount", [path]);
      }
    }
  },
  "root that can mount",
  "file descriptors",
);

test("mounts: a mount point that a later mount hides may be a link that leads elsewhere", () => {
  const table = parseMounts([
    mount("/", "ext4"),
    mount("/x/y", "tmpfs"),
    mount("/x", "tmpfs"),
    mount("/nfs", "nfs4"),
  ].join("\n"));
  const readLink = (name: string) => name === "/x/y" ? "/nfs" : undefined;
  assert.equal(followLocal("", "/x/y/f", table, readLink), null);
});
