/**
 * Access lists and other extended attributes of files on Linux, and what the
 * kernel permits to other users. Python sets the attributes, because not every
 * runtime can.
 */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";

const SET = `
import os, sys
os.setxattr(sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3]))
`;

const GET = `
import os, sys
print({name: os.getxattr(sys.argv[1], name).hex()
       for name in os.listxattr(sys.argv[1])})
`;

/** linux/posix_acl.h: the tags of entries, in the order of the kernel. */
const TAGS = { owner: 1, user: 2, group: 4, mask: 16, others: 32 } as const;

/** The id of an entry that does not name a user. */
const NO_ID = 0xffffffff;

/** An access list with one named user. Each number is from 0 to 7. */
export interface AccessList {
  owner: number;
  /** The id of the named user, and what it may do. */
  user: [id: number, permissions: number];
  group: number;
  mask: number;
  others: number;
}

/** Returns the value of the attribute that contains an access list. */
export function encodeAccessList(list: AccessList): Uint8Array {
  const entries: [tag: number, permissions: number, id: number][] = [
    [TAGS.owner, list.owner, NO_ID],
    [TAGS.user, list.user[1], list.user[0]],
    [TAGS.group, list.group, NO_ID],
    [TAGS.mask, list.mask, NO_ID],
    [TAGS.others, list.others, NO_ID],
  ];
  const view = new DataView(new ArrayBuffer(4 + 8 * entries.length));
  view.setUint32(0, 2, true);
  for (const [i, [tag, permissions, id]] of entries.entries()) {
    view.setUint16(4 + 8 * i, tag, true);
    view.setUint16(6 + 8 * i, permissions, true);
    view.setUint32(8 + 8 * i, id, true);
  }
  return new Uint8Array(view.buffer);
}

/** Sets an extended attribute. Returns whether that is supported. */
export function trySetAttribute(
  path: string,
  name: string,
  value: Uint8Array,
): boolean {
  const hex = Buffer.from(value).toString("hex");
  return spawnSync("python3", ["-c", SET, path, name, hex]).status === 0;
}

/** Sets the access list of a file, or the list that new files inherit. */
export function setAccessList(
  path: string,
  list: AccessList,
  kind: "access" | "default" = "access",
): void {
  const name = `system.posix_acl_${kind}`;
  assert.ok(trySetAttribute(path, name, encodeAccessList(list)));
}

/** Returns the extended attributes of a file, in hexadecimal digits. */
export function attributesOf(path: string): Record<string, string> {
  const { stdout } = spawnSync("python3", ["-c", GET, path], {
    encoding: "utf8",
  });
  return JSON.parse(stdout.replaceAll("'", '"'));
}

/** Returns what the kernel permits a user to do with a file: `"rw"` to `""`. */
export function permitted(path: string, uid: number, gid: number): string {
  const script = 'test -r "$1" && printf r; test -w "$1" && printf w; true';
  const { stdout } = spawnSync("setpriv", [
    `--reuid=${uid}`,
    `--regid=${gid}`,
    "--clear-groups",
    ...["sh", "-c", script, "sh", path],
  ], { encoding: "utf8" });
  return stdout;
}
