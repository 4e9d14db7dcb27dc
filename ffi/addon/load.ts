/**
 * Loads the addon into Node: the file of the npm package, if it lies beside
 * this module, or else the copy in `binaries.ts`, which a file must contain for
 * a moment.
 *
 * No other user can make this process load other code:
 *
 * - The file beside this module must have the bytes of the copy. It and its
 *   folder must belong to the owner of this module, so that only that user can
 *   replace the file after the comparison.
 * - Linux loads the copy through a descriptor of a file without a name, which
 *   other users cannot replace in any folder.
 * - macOS loads it from a new folder with mode 0700. The temporary folder must
 *   not allow other users to rename that folder.
 * - Windows does not remove a loaded file, so its file has a constant name in
 *   the user's own folder, to which other users do not have access.
 */

import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { constants as fsConstants } from "node:fs";
import { constants, homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { builtin } from "../runtime/builtin.ts";
import { errorCode, Unsupported } from "../types.ts";
import type { CFunction } from "../types.ts";
import { unpack } from "./unpack.ts";

/** What `addon.c` exports. */
export interface Addon {
  bind(library: string, name: string, signature: string): CFunction;
  errno(): number;
}

/**
 * Counts the changes of what `addon.c` exports. A process may load two versions
 * of the package.
 */
const INTERFACE = 1;

/** fcntl.h (Linux): a file without a name, in the directory that is opened. */
const O_TMPFILE = 0o20000000 | fsConstants.O_DIRECTORY;
/** stat.h: other users may write. */
const S_IWOTH = 0o2;
/** stat.h: users may rename and remove only their own files in a directory. */
const S_ISVTX = 0o1000;
/** The superuser, which may replace every file. */
const ROOT = 0;
/** user_namespaces(7): stands for the users that a container does not have. */
const OVERFLOW_UID = 65534;

/** What to do if the temporary folder is not suitable. */
const OTHER_FOLDER = "set TMPDIR to a folder of this user that is writable " +
  "and not mounted with noexec";

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
  switch (process.platform) {
    case "win32":
      return openKeptFile(bytes);
    case "linux":
      return openUnnamedFile(bytes);
    default:
      return openRemovedFile(bytes);
  }
}

/** Returns whether the options of this Node disable addons. */
export function addonsAreDisabled(): boolean {
  try {
    open("/"); // A folder is not a library.
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
    const isTrusted = [folder, fs.lstatSync(file)].every((stats) =>
      !stats.isSymbolicLink() && stats.uid === uid && !othersMayWrite(stats)
    );
    return isTrusted ? file : undefined;
  } catch {
    return undefined;
  }
}

/** Returns whether other users may write a file, or replace those of a folder. */
function othersMayWrite(stats: fs.Stats): boolean {
  const isSticky = stats.isDirectory() && (stats.mode & S_ISVTX) !== 0;
  return process.platform !== "win32" && (stats.mode & S_IWOTH) !== 0 &&
    !isSticky;
}

function hasContent(file: string, bytes: Uint8Array): boolean {
  return Buffer.compare(fs.readFileSync(file), bytes) === 0;
}

/**
 * The loader of glibc identifies a library by its path, too, and so returns an
 * older one that had the same number. So the path says the interface.
 */
function openUnnamedFile(bytes: Uint8Array): Addon {
  let fd: number | undefined;
  try {
    fd = createUnnamedFile();
    fs.writeFileSync(fd, bytes);
    return open(`/proc/self/fd/${"./".repeat(INTERFACE)}${fd}`);
  } catch (error) {
    throw cannotLoad(tmpdir(), error, OTHER_FOLDER);
  } finally {
    // If this worker is terminated first, Node closes the file.
    if (fd !== undefined) fs.closeSync(fd);
  }
}

function createUnnamedFile(): number {
  try {
    return fs.openSync(tmpdir(), O_TMPFILE | fsConstants.O_RDWR, 0o600);
  } catch {
    // overlayfs has such files since Linux 6.3, NFS does not.
    return inNewFolder((folder) =>
      fs.openSync(join(folder, "addon.node"), "wx+", 0o600)
    );
  }
}

function openRemovedFile(bytes: Uint8Array): Addon {
  try {
    refuseUnsafeFolder(tmpdir());
    return inNewFolder((folder) => {
      const file = join(folder, "addon.node");
      fs.writeFileSync(file, bytes, { flag: "wx", mode: 0o600 });
      return open(file);
    });
  } catch (error) {
    throw cannotLoad(tmpdir(), error, OTHER_FOLDER);
  }
}

/** Calls a function with a new folder, and then removes the folder. */
function inNewFolder<Result>(body: (folder: string) => Result): Result {
  const folder = fs.mkdtempSync(join(tmpdir(), "portalock-"));
  try {
    return body(folder);
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

function refuseUnsafeFolder(folder: string): void {
  const stats = fs.statSync(folder);
  const owners = [process.geteuid?.(), ROOT, OVERFLOW_UID];
  if (othersMayWrite(stats) || !owners.includes(stats.uid)) {
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
  const hash = nodeCrypto().createHash("sha256").update(bytes).digest("hex")
    .slice(0, 16);
  const file = join(folder, `portalock-${hash}.node`);
  try {
    if (!isThere(file, bytes)) publish(file, bytes);
    return open(file);
  } catch (error) {
    throw cannotLoad(folder, error, "make it writable");
  }
}

function isThere(file: string, bytes: Uint8Array): boolean {
  try {
    return hasContent(file, bytes);
  } catch {
    return false;
  }
}

/** Only Windows needs it, and it takes long to load. */
function nodeCrypto(): typeof import("node:crypto") {
  return builtin<typeof import("node:crypto")>("node:crypto")!;
}

function publish(file: string, bytes: Uint8Array): void {
  fs.mkdirSync(dirname(file), { recursive: true });
  const unpublished = `${file}.${nodeCrypto().randomUUID()}`;
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
      `the options of Node ${process.version} disable addons; pass ` +
        "--allow-addons if you pass --permission, and do not pass --no-addons",
      { cause },
    );
  }
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new Unsupported(
    `Node ${process.version} cannot load native code from the folder ` +
      `${JSON.stringify(folder)} (${reason}); ${remedy}, or copy the folder ` +
      "dist/native of the npm package @x/portalock beside the bundle, as native",
    { cause },
  );
}
