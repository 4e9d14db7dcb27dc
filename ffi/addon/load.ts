/**
 * Loads the addon into Node: the file of the npm package, if it lies beside
 * this module, or else the copy in `binaries.ts`, which a file must contain for
 * a moment.
 *
 * No other user can make this process load code of his own:
 *
 * - The file beside this module must have the bytes of the copy. It and its
 *   folder must belong to the owner of this module, so that only that user can
 *   replace the file after the comparison.
 * - On Linux, the copy gets a file without a name, if the file system of the
 *   temporary folder has such files.
 * - Otherwise, POSIX gets a file in a new folder with mode 0700. The temporary
 *   folder must not allow other users to rename that folder.
 * - Windows does not remove a loaded file, so its file has a constant name in
 *   the user's own folder, to which other users have no access.
 */

import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { constants, devNull, homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { builtin } from "../runtime/builtin.ts";
import { errorCode, Unsupported } from "../types.ts";
import type { CFunction } from "../types.ts";
import { SOURCE_SHA256 } from "./binaries.ts";
import { unpack } from "./unpack.ts";

/** What `addon.c` exports. */
export interface Addon {
  bind(library: string, name: string, signature: string): CFunction;
  errno(): number;
}

/** fcntl.h (Linux): a file without a name, in the directory that is opened. */
const O_TMPFILE = 0o20000000 | fs.constants.O_DIRECTORY;
/** stat.h: other users may write. */
const S_IWOTH = 0o2;
/** stat.h: users may rename and remove only their own files in a directory. */
const S_ISVTX = 0o1000;
/** The superuser, who may replace every file. */
const ROOT = 0;
/** user_namespaces(7): stands for the users that a container does not have. */
const OVERFLOW_UID = 65534;

/**
 * Loads the addon. Each call returns a new object.
 *
 * @param url The URL of this module. Undefined in a bundle that is CommonJS.
 * @throws {Unsupported} If there is no addon for this system, or it cannot be
 * loaded.
 */
export function loadAddon(
  url: string | undefined = import.meta.url,
  target = `${process.platform}-${process.arch}`,
): Addon {
  const bytes = unpack(target);
  if (bytes === undefined) {
    throw new Unsupported(
      `Node ${process.version} does not have FFI, and portalock does not ` +
        `contain native code for ${target}; use Node 26 or newer`,
    );
  }
  const file = fileBeside(url, target);
  try {
    if (file !== undefined && hasContent(file, bytes)) return open(file);
  } catch {
    // For example on a file system that is mounted with noexec.
  }
  return process.platform === "win32"
    ? openKeptFile(bytes)
    : openUnnamedFile(bytes) ?? openRemovedFile(bytes);
}

/** Returns whether this Node was told not to load addons. */
export function addonsAreDisabled(): boolean {
  try {
    open(devNull);
  } catch (error) {
    return errorCode(error) === "ERR_DLOPEN_DISABLED";
  }
  return false;
}

function open(file: string): Addon {
  const module = { exports: {} as Addon };
  process.dlopen(module, file, constants.dlopen?.RTLD_NOW);
  if (typeof module.exports.bind === "function") return module.exports;
  throw new Error(`${file} is not the addon of portalock`);
}

/** Returns the file beside this module if it may be trusted like the module. */
function fileBeside(
  url: string | undefined,
  target: string,
): string | undefined {
  try {
    if (!url?.startsWith("file:")) return undefined;
    const { fileURLToPath } = builtin<typeof import("node:url")>("node:url")!;
    const module = fileURLToPath(url);
    const file = fileURLToPath(new URL(`./native/${target}.node`, url));
    const { uid } = fs.statSync(module);
    const folder = fs.lstatSync(dirname(file));
    const isTrusted = folder.isDirectory() && folder.uid === uid &&
      fs.lstatSync(file).uid === uid && !othersMayReplaceFiles(folder);
    return isTrusted ? file : undefined;
  } catch {
    return undefined;
  }
}

function othersMayReplaceFiles({ mode }: fs.Stats): boolean {
  return process.platform !== "win32" && (mode & S_IWOTH) !== 0 &&
    (mode & S_ISVTX) === 0;
}

function hasContent(file: string, bytes: Uint8Array): boolean {
  return Buffer.compare(fs.readFileSync(file), bytes) === 0;
}

/**
 * Nothing is left behind, whenever the process or the thread ends, because Node
 * closes the files of a worker.
 *
 * @returns `undefined` if the system does not have such files.
 */
function openUnnamedFile(bytes: Uint8Array): Addon | undefined {
  if (process.platform !== "linux") return undefined;
  let fd: number | undefined;
  try {
    fd = fs.openSync(tmpdir(), O_TMPFILE | fs.constants.O_RDWR, 0o600);
    fs.writeFileSync(fd, bytes);
    // The loader of glibc identifies libraries by their paths. If one is loaded
    // that had this number, its functions are checked or it fails.
    return open(`/proc/self/fd/${fd}`);
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

function openRemovedFile(bytes: Uint8Array): Addon {
  const parent = tmpdir();
  let folder: string | undefined;
  try {
    refuseUnsafeFolder(parent);
    folder = fs.mkdtempSync(join(parent, "portalock-"));
    const file = join(folder, "addon.node");
    fs.writeFileSync(file, bytes, { flag: "wx", mode: 0o600 });
    return open(file);
  } catch (error) {
    throw cannotLoad(
      parent,
      error,
      "set TMPDIR to a folder of this user that is writable and not mounted " +
        "with noexec, or ",
    );
  } finally {
    if (folder !== undefined) {
      fs.rmSync(folder, { recursive: true, force: true });
    }
  }
}

function refuseUnsafeFolder(folder: string): void {
  const stats = fs.statSync(folder);
  const owners = [process.geteuid?.(), ROOT, OVERFLOW_UID];
  if (othersMayReplaceFiles(stats) || !owners.includes(stats.uid)) {
    throw new Error("other users may replace its files");
  }
}

/**
 * Windows neither removes nor replaces a file that a process has loaded. Steps
 * of two processes, P and Q:
 *
 * - P.write Q.write P.rename Q.rename: Q replaces the file by the same bytes.
 * - P.write Q.write P.rename P.open Q.rename: the rename fails, and Q opens the
 *   file of P after it has compared the bytes.
 * - P.rename Q.compare: a rename is atomic, so Q never sees a part of the file.
 * - A file with other bytes, such as after a crash of the system, is replaced.
 */
function openKeptFile(bytes: Uint8Array): Addon {
  // Not tmpdir(): a service may have that of Windows, in which others create
  // files.
  const folder = join(homedir(), "AppData", "Local", "Temp");
  const name = `portalock-${process.arch}-${SOURCE_SHA256.slice(0, 16)}.node`;
  const file = join(folder, name);
  try {
    if (!isThere(file, bytes)) publish(file, bytes);
    return open(file);
  } catch (error) {
    throw cannotLoad(folder, error, "make it writable, or ");
  }
}

function isThere(file: string, bytes: Uint8Array): boolean {
  try {
    return hasContent(file, bytes);
  } catch {
    return false;
  }
}

function publish(file: string, bytes: Uint8Array): void {
  fs.mkdirSync(dirname(file), { recursive: true });
  const { randomUUID } = builtin<typeof import("node:crypto")>("node:crypto")!;
  const unpublished = `${file}.${randomUUID()}`;
  try {
    fs.writeFileSync(unpublished, bytes, { flag: "wx" });
    fs.renameSync(unpublished, file);
  } catch (error) {
    fs.rmSync(unpublished, { force: true });
    if (!isThere(file, bytes)) throw error;
  }
}

function cannotLoad(
  folder: string,
  cause: unknown,
  remedy: string,
): Unsupported {
  if (addonsAreDisabled()) {
    return new Unsupported(
      `Node ${process.version} was told not to load addons; pass ` +
        "--allow-addons if you pass --permission, and do not pass --no-addons",
      { cause },
    );
  }
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new Unsupported(
    `Node ${process.version} cannot load native code from the folder ` +
      `${JSON.stringify(folder)} (${reason}); ${remedy}do not bundle ` +
      "@x/portalock, whose npm package contains the code as a file",
    { cause },
  );
}
