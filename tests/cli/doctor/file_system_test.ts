import assert from "node:assert/strict";
import {
  findFileSystem,
  localLockOption,
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
  const optionOf = (type: string, ...options: string[]) =>
    localLockOption({ type, options, source: "", mountPoint: "/" })?.option;
  assert.equal(optionOf("nfs", "rw", "nolock"), "nolock");
  assert.equal(optionOf("nfs4", "local_lock=flock"), "local_lock=flock");
  assert.equal(optionOf("nfs4", "local_lock=none"), undefined);
  assert.equal(optionOf("cifs", "nobrl"), "nobrl");
  assert.equal(optionOf("ocfs2", "localflocks"), "localflocks");
  assert.equal(optionOf("lustre", "localflock"), "localflock");
  assert.equal(optionOf("ext4", "nolock", "nobrl", "localflocks"), undefined);
});
