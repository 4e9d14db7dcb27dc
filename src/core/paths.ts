/**
 * Joins and resolves paths without normalizing them: after a symbolic link,
 * `..` is the parent directory of the link's target.
 *
 * @module
 */

import { basename, isAbsolute, resolve, sep } from "node:path";
import process from "node:process";
import { nodeCrypto } from "./crypto.ts";

/** Appends a name to the path of a directory, without normalizing either. */
export function childPath(directory: string, name: string): string {
  return directory.endsWith(sep) ? directory + name : directory + sep + name;
}

/** Makes a path independent of later changes of the current directory. */
export function absolute(path: string): string {
  if (isAbsolute(path)) return path;
  try {
    // Windows has one current directory for each drive.
    if (sep === "\\") return resolve(path);
    return childPath(process.cwd(), path);
  } catch {
    // The directory was removed, or Deno lacks `--allow-read`: stay relative.
    return path;
  }
}

/** NAME_MAX of most file systems. Names have fewer UTF-16 units than bytes. */
const MAX_NAME_BYTES = 255;

const HASH_DIGITS = 16;

/**
 * Appends a suffix to the path of a file. If the name would exceed 255 bytes as
 * UTF-8, it is shortened: the beginning of the name, a dot, 16 hexadecimal
 * digits of the SHA-256 of the name, and the suffix. The beginning ends before
 * the character that does not fit. Both are taken from the name in lower case
 * and in the normalization form NFC, because macOS and Windows may have one
 * file for several spellings.
 */
export function siblingPath(path: string, suffix: string): string {
  const name = basename(path);
  const encoder = new TextEncoder();
  const sibling = name + suffix;
  if (encoder.encode(sibling).length <= MAX_NAME_BYTES) return path + suffix;
  const folded = name.toLowerCase().normalize("NFC");
  const hash = nodeCrypto().createHash("sha256").update(folded).digest("hex");
  const end = `.${hash.slice(0, HASH_DIGITS)}${suffix}`;
  const room = new Uint8Array(MAX_NAME_BYTES - end.length);
  const { read } = encoder.encodeInto(folded, room);
  return path.slice(0, -name.length) + folded.slice(0, read) + end;
}
