import assert from "node:assert/strict";
import {
  findFileSystem,
  localLocks,
} from "../../../src/cli/doctor/file_system.ts";
import { test } from "../../support/test.ts";

const MOUNTINFO = `
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 22 0:25 / /srv rw,nosuid shared:2 - nfs4 server:/export rw,vers=4.2
31 30 0:26 / /srv/a\\040b rw - tmpfs tmpfs rw,size=1024k
32 31 0:27 / /srv/a\\040b rw - overlay overlay rw,lowerdir=/l
33 22 0:28 /etc/a.json /etc/a.json rw master:3 propagate_from:2 - xfs /dev/b rw
`;

test("doctor: the file system is that of the innermost mount point", () => {
  const typeOf = (path: string) => findFileSystem(MOUNTINFO, path)?.type;
  assert.equal(typeOf("/"), "ext4");
  assert.equal(typeOf("/srvother"), "ext4");
  assert.equal(typeOf("/srv"), "nfs4");
  assert.equal(typeOf("/srv/data/a"), "nfs4");
  assert.equal(typeOf("/etc/a.json"), "xfs");
  assert.equal(typeOf("/etc/a.json5"), "ext4");
});

test("doctor: of two mounts at one path, the later one counts", () => {
  assert.deepEqual(findFileSystem(MOUNTINFO, "/srv/a b/c"), {
    type: "overlay",
    source: "overlay",
    mountPoint: "/srv/a b",
    options: ["rw", "lowerdir=/l"],
  });
});

test("doctor: without a mount table, the file system is unknown", () => {
  assert.equal(findFileSystem("", "/srv"), null);
});

test("doctor: mount options that keep locks on this machine are known", () => {
  const localTo = (type: string, ...options: string[]) => {
    const found = localLocks({ type, options, source: "", mountPoint: "/" });
    return found && `${found.option}: ${found.lockers.join(" ")}`;
  };
  const all = "flock ofd lockf";
  assert.equal(localTo("nfs", "rw", "nolock"), `nolock: ${all}`);
  assert.equal(localTo("nfs", "local_lock=all"), `local_lock=all: ${all}`);
  assert.equal(
    localTo("nfs4", "local_lock=flock"),
    "local_lock=flock: flock",
  );
  assert.equal(
    localTo("nfs", "local_lock=posix"),
    "local_lock=posix: ofd lockf",
  );
  assert.equal(localTo("nfs4", "local_lock=none"), null);
  assert.equal(localTo("cifs", "nobrl"), `nobrl: ${all}`);
  assert.equal(localTo("gfs2", "localflocks"), `localflocks: ${all}`);
  assert.equal(localTo("ocfs2", "localflocks"), "localflocks: flock");
  assert.equal(localTo("lustre", "localflock"), `localflock: ${all}`);
  assert.equal(localTo("ext4", "nolock", "nobrl", "localflocks"), null);
});
