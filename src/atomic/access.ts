/**
 * Which users may access a file that replaces another: never one that could not
 * access the old file.
 *
 * A file with an access list, see acl(5), shows the mask of the list as the
 * permission bits of its group. The group itself may have less:
 *
 * - `chmod 600 a; setfacl -m u:1234:rw a` lists user 1234, and shows 0660.
 * - A new file with the bits 0660 and without the list can be read and written
 *   by the group.
 *
 * So the list is copied. And a new file inherits the default list of its
 * directory, so a list that the old file does not have is removed. What cannot
 * be copied is replaced by less: the group and others keep only the bits that
 * every user of the old file has ("common").
 *
 * The temporary file is created with the common bits. No user gains access by
 * them, whatever the owner, group and list of the new file are. Then the owner,
 * the list and the bits are changed, in this order, before any content is
 * written. A file of 0600 or 0644 already has its final bits then, so chmod(2)
 * is not called.
 *
 * The old file may change while the new one is written. So its metadata is
 * read again immediately before the commit:
 *
 * - W.1 The writer copies the access of `a.json`, which is 0644.
 * - P.2 Another process calls `chmod 600 a.json`, or replaces the file.
 * - W.3 The writer finds that the file has changed, and copies again.
 * - W.4 The writer renames its file to `a.json`.
 *
 * A change between W.3 and W.4 is lost, as a change to the content is.
 *
 * The attributes are read and written on the calling thread, as flock(2) is,
 * because no runtime can do that in its thread pool.
 *
 * Linux keeps lists in the attributes below. On macOS and Windows, lists are
 * not copied: the new file inherits those of its directory. There, the
 * permission bits of a file do not depend on its list.
 *
 * @module
 */

import type { Stats } from "node:fs";
import { platform } from "../../ffi/mod.ts";
import { errorCode } from "../../ffi/types.ts";
import type { FileAttributes, FileInfo } from "../../ffi/types.ts";
import {
  formatSubject,
  LockException,
  UNSUPPORTED_CODES,
} from "../core/errors.ts";
import type { Gen } from "../core/gensync.ts";
import { changeMode, changeOwner, statOf } from "./fs_ops.ts";
import { allowed } from "./refusals.ts";
import type { TempFile } from "./temp_file.ts";

const POSIX_LIST = "system.posix_acl_access";

/** The attributes that contain access lists. */
const LISTS: readonly string[] = [POSIX_LIST, "system.nfs4_acl"];

/** Other attributes that are copied, if the system permits it. */
const COPIED = /^(user\.|security\.selinux$)/;

/** linux/posix_acl_xattr.h: the header, and the fields of an entry. */
const LIST_VERSION = 2;
const HEADER_SIZE = 4;
const ENTRY_SIZE = 8;

/** linux/posix_acl.h: the entry of the owner, and that of other users. */
const ACL_USER_OBJ = 0x01;
const ACL_OTHER = 0x20;
/** linux/posix_acl.h: an entry that limits the entries of {@linkcode MASKED}. */
const ACL_MASK = 0x10;
/** linux/posix_acl.h: ACL_USER, ACL_GROUP_OBJ and ACL_GROUP. */
const MASKED = 0x02 | 0x04 | 0x08;

/** An extended attribute. */
export interface Attribute {
  readonly name: string;
  readonly value: Uint8Array;
}

/** Which users may access a file. */
export interface Access {
  readonly uid: number;
  readonly gid: number;
  /** The permission bits, of which those of the group may be a mask. */
  readonly mode: number;
  readonly list: Attribute | null;
  /** The bits (0 to 7) that every user of the file has. */
  readonly common: number;
  /** The bits (0 to 7) that at least one user besides the owner has. */
  readonly shared: number;
  /** Attributes that do not affect which users may access the file. */
  readonly attributes: readonly Attribute[];
}

/** Reads which users may access a file. */
export function readAccess(path: string, stats: Stats): Access {
  const { attributes, hidesAccessLists } = platform();
  if (!attributes) return withBits(stats, hidesAccessLists ?? false);
  try {
    const names = attributes.list(path);
    const access = withList(stats, readList(attributes, path, names));
    const copied = names.filter((name) => COPIED.test(name));
    return { ...access, attributes: readAll(attributes, path, copied) };
  } catch (error) {
    const supported = !UNSUPPORTED_CODES.includes(errorCode(error) ?? "");
    return withBits(stats, supported);
  }
}

/** The permission bits with which every user may create the new file. */
export function creationBits({ mode, common }: Access): number {
  return mode & 0o700 | common * 0o11;
}

/**
 * Gives a temporary file the access of the file that it replaces.
 *
 * @returns `false` if the file has fewer permission bits than it could have, if
 * it were created with those of `access`.
 */
export function* copyAccess(
  tempFile: TempFile,
  access: Access,
): Gen<boolean> {
  const { path, file } = tempFile;
  const info = yield* statOf(path, file);
  // On Windows, Deno does not report owners and cannot change permissions.
  if (info.uid === null || info.mode === null) return true;
  const target = { path, fd: file.fd };
  const narrowed = yield* narrow(target, info.mode, creationBits(access));
  copyAttributes(file.fd, access.attributes);
  const owned = yield* settleOwner(tempFile, info, access);
  const kept = forOwner(access, owned);
  const list = settleList(file.fd, kept.list);
  const mode = list === "refused" ? onlyCommon(kept) : kept.mode;
  const isNew = owned === info && list === "none" && !narrowed;
  const before = isNew ? info : yield* statOf(path, file);
  const complete = yield* settleMode(tempFile, before.mode ?? 0, mode);
  return complete || !isNew;
}

/** Whether a file is the same, with the same access, as it was before. */
export function isUnchanged(now: Stats, before: Stats): boolean {
  return (["dev", "ino", "mode", "uid", "gid", "ctimeMs"] as const)
    .every((field) => Object.is(now[field], before[field]));
}

/** The access of a file that does not have a list, or a hidden one. */
function withBits(stats: Stats, hidden: boolean): Access {
  const { uid, gid } = stats;
  const mode = stats.mode & 0o7777;
  const [owner, group, others] = [mode >> 6 & 7, mode >> 3 & 7, mode & 7];
  return {
    uid,
    gid,
    // The bits of a hidden list's mask, without those that only it may have.
    mode: hidden ? mode & ~0o070 | (group & others) << 3 : mode,
    list: null,
    common: owner & group & others,
    shared: group | others,
    attributes: [],
  };
}

function withList(stats: Stats, list: Attribute | null): Access {
  const access = withBits(stats, false);
  if (list === null) return access;
  const perms = list.name === POSIX_LIST ? permsOf(list.value) : [];
  return {
    ...access,
    list,
    // Nothing is known about the entries of another kind of list.
    common: perms.length > 0 ? perms.reduce((a, b) => a & b) : 0,
    shared: perms.length > 0 ? perms.slice(1).reduce((a, b) => a | b, 0) : 7,
  };
}

/** Returns the permissions of each entry, less the mask. The owner is first. */
function permsOf(value: Uint8Array): number[] {
  const view = new DataView(value.buffer, value.byteOffset, value.length);
  if (view.getUint32(0, true) !== LIST_VERSION) return [];
  const entries: { tag: number; perm: number }[] = [];
  for (let at = HEADER_SIZE; at < value.length; at += ENTRY_SIZE) {
    const [tag, perm] = [
      view.getUint16(at, true),
      view.getUint16(at + 2, true),
    ];
    entries.push({ tag, perm });
  }
  const mask = entries.find(({ tag }) => tag === ACL_MASK)?.perm ?? 7;
  return entries.map(({ tag, perm }) => tag & MASKED ? perm & mask : perm);
}

/**
 * Returns a list with which the users who may write the file of another list may
 * read and write, and other users may not. Returns `null` for a list of another
 * kind.
 *
 * @param others The permissions of users who are not listed.
 */
export function writersOnly(list: Attribute, others: number): Attribute | null {
  const perms = list.name === POSIX_LIST ? permsOf(list.value) : [];
  if (perms.length === 0) return null;
  const value = list.value.slice();
  const view = new DataView(value.buffer);
  for (const [i, perm] of perms.entries()) {
    const at = HEADER_SIZE + i * ENTRY_SIZE;
    const tag = view.getUint16(at, true);
    const writes = tag === ACL_USER_OBJ || tag === ACL_MASK || perm & 2;
    const bits = tag === ACL_OTHER ? others : writes ? 6 : 0;
    view.setUint16(at + 2, bits, true);
  }
  return { name: list.name, value };
}

function readList(
  attributes: FileAttributes,
  path: string,
  names: string[],
): Attribute | null {
  const name = LISTS.find((name) => names.includes(name));
  const value = name === undefined ? null : attributes.get(path, name);
  return name === undefined || value === null ? null : { name, value };
}

function readAll(
  attributes: FileAttributes,
  path: string,
  names: string[],
): Attribute[] {
  return names.flatMap((name) => {
    try {
      const value = attributes.get(path, name);
      return value === null ? [] : [{ name, value }];
    } catch {
      // A file that may not be read does not show its user attributes.
      return [];
    }
  });
}

function copyAttributes(
  fd: number | null,
  copied: readonly Attribute[],
): void {
  const { attributes } = platform();
  if (!attributes || fd === null) return;
  for (const { name, value } of copied) {
    try {
      // SELinux would log a refusal, also if the label did not change.
      const present = attributes.get(fd, name);
      if (!isEqual(present, value)) attributes.set(fd, name, value);
    } catch {
      // The file system or the policy does not permit this attribute.
    }
  }
}

function isEqual(a: Uint8Array | null, b: Uint8Array): boolean {
  return a?.length === b.length && b.every((byte, i) => byte === a[i]);
}

/**
 * Gives a file the owner and the group of another one, or only the group, if
 * that is permitted. Returns the result, because some file systems ignore the
 * calls.
 */
function* settleOwner(
  { path, file }: TempFile,
  info: FileInfo,
  { uid, gid }: Access,
): Gen<FileInfo> {
  if (info.uid === uid && info.gid === gid) return info;
  const target = { path, fd: file.fd };
  if (!(yield* allowed("chown", changeOwner(target, uid, gid)))) {
    yield* allowed("chown", changeOwner(target, -1, gid));
  }
  return yield* statOf(path, file);
}

/** The access that users may have if the new file has this owner and group. */
function forOwner(access: Access, { uid, gid }: FileInfo): Access {
  const groupKept = gid === access.gid;
  if (groupKept && uid === access.uid) return access;
  // Drops set-user-ID and set-group-ID. The old owner belongs to the group or
  // to others now, and the members of the old group belong to others.
  const mode = access.mode & 0o1777;
  const covered = (access.shared & ~(mode >> 6)) === 0;
  if (groupKept && covered) return { ...access, mode };
  return { ...access, mode: onlyCommon({ ...access, mode }), list: null };
}

/** The permission bits if only the common ones are left. */
function onlyCommon({ mode, common }: Access): number {
  return mode & ~0o077 | common * 0o11;
}

/**
 * Gives a file exactly this access list. Returns `"none"` if it neither has nor
 * had one, and `"refused"` if it may have another one.
 */
export function settleList(
  fd: number | null,
  list: Attribute | null,
): "none" | "changed" | "refused" {
  const { attributes } = platform();
  if (!attributes || fd === null) return "none";
  try {
    if (list !== null) attributes.set(fd, list.name, list.value);
    else if (attributes.get(fd, POSIX_LIST) === null) return "none";
    else attributes.remove(fd, POSIX_LIST);
    return "changed";
  } catch (error) {
    const supported = !UNSUPPORTED_CODES.includes(errorCode(error) ?? "");
    return list !== null || supported ? "refused" : "none";
  }
}

/**
 * Removes bits that another owner or list would give to other users. A new
 * file does not have any. Returns whether the bits may have changed.
 */
function* narrow(
  target: { path: string; fd: number | null },
  mode: number,
  limit: number,
): Gen<boolean> {
  if ((mode & 0o7777 & ~limit) === 0) return false;
  return yield* allowed("chmod", changeMode(target, mode & limit));
}

/**
 * Changes the permission bits if they differ. Throws if the file keeps bits
 * that it must not have. Returns whether it has all bits that it should have.
 */
function* settleMode(
  { path, file }: TempFile,
  before: number,
  mode: number,
): Gen<boolean> {
  const bits = before & 0o7777;
  if (bits === mode) return true;
  const change = changeMode({ path, fd: file.fd }, mode);
  if ((bits & ~mode) === 0) return yield* allowed("chmod", change);
  yield* change;
  // Some file systems ignore the call.
  const after = yield* statOf(path, file);
  if (((after.mode ?? 0) & 0o7777 & ~mode) === 0) return true;
  throw new LockException(
    `Cannot write ${formatSubject({ path })}: the file system ignores ` +
      "chmod(2), so other users would have access",
    { path, code: "EPERM" },
  );
}
