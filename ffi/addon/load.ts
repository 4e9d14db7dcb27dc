/**
 * Loads the addon into Node: the file of the npm package, if it lies beside
 * this module, or else the copy in `binaries.ts`, which a file must contain for
 * a moment.
 *
 * No other user can make this process load other code:
 *
 * - The file beside this module must have the bytes of the copy, and only this
 *   user and root may change it after the comparison. To be beside the module
 *   does not suffice: a bundler may have replaced `import.meta.url` with a path
 *   of the machine on which the bundle was built, where other users may create
 *   files now.
 * - Linux loads both through a descriptor, and the copy from a file without a
 *   name. So no path is resolved twice.
 * - macOS loads both by a path, of which only this user and root may rename a
 *   part. The copy gets a new folder with mode 0700.
 * - Windows does not remove a loaded file, so the file of the copy has a
 *   constant name in the user's own folder, to which other users do not have
 *   access. There the owner of a file is unknown, so a bundle must not be built
 *   in a folder in which other users can create files.
 */

import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { constants as fsConstants } from "node:fs";
import { constants, homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { builtin } from "../runtime/builtin.ts";
import { errorCode, Unsupported } from "../types.ts";
import type { CFunction } from "../types.ts";
import { unpack } from "./unpack.ts";

// Importing `node:process` makes the standard streams non-blocking on Node.
const { process } = globalThis;

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
/** stat.h: the group or other users may write. */
const OTHERS_WRITE = 0o022;
/** stat.h: users may rename and remove only their own files in a directory. */
const S_ISVTX = 0o1000;
/** The superuser, which may replace every file. */
const ROOT = 0;

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
  const beside = openFileBeside(url, target, bytes);
  if (beside !== undefined) return beside;
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

/** Loads the file beside this module, unless another user may replace it. */
function openFileBeside(
  url: string | undefined,
  target: string,
  bytes: Uint8Array,
): Addon | undefined {
  if (!url?.startsWith("file:")) return undefined;
  const { fileURLToPath } = builtin<typeof import("node:url")>("node:url")!;
  try {
    const file = fileURLToPath(new URL(`./native/${target}.node`, url));
    if (process.platform === "linux") return openOwnFile(file, bytes);
    const path = fs.realpathSync(file);
    const isTrusted = process.platform === "win32" || isOwnPath(path);
    return isTrusted && hasContent(path, bytes) ? open(path) : undefined;
  } catch {
    // For example on a file system that is mounted with noexec.
    return undefined;
  }
}

function openOwnFile(file: string, bytes: Uint8Array): Addon | undefined {
  const fd = fs.openSync(file, "r");
  try {
    const isTrusted = isOwn(fs.fstatSync(fd)) && hasContent(fd, bytes);
    return isTrusted ? openDescriptor(fd) : undefined;
  } finally {
    fs.closeSync(fd);
  }
}

/** Returns whether only this user and root may rename a part of a real path. */
function isOwnPath(path: string): boolean {
  const parent = dirname(path);
  return isOwn(fs.lstatSync(path)) && (parent === path || isOwnPath(parent));
}

/**
 * Returns whether only this user and root may write a file, or rename the
 * files of a folder.
 */
function isOwn(stats: fs.Stats): boolean {
  const isSticky = stats.isDirectory() && (stats.mode & S_ISVTX) !== 0;
  return [process.geteuid?.(), ROOT].includes(stats.uid) &&
    ((stats.mode & OTHERS_WRITE) === 0 || isSticky);
}

function hasContent(file: string | number, bytes: Uint8Array): boolean {
  return Buffer.compare(fs.readFileSync(file), bytes) === 0;
}

/**
 * The loader of glibc identifies a library by its path, too, and so returns an
 * older one that had the same number. So the path says the interface.
 */
function openDescriptor(fd: number): Addon {
  return open(`/proc/self/fd/${"./".repeat(INTERFACE)}${fd}`);
}

function openUnnamedFile(bytes: Uint8Array): Addon {
  let fd: number | undefined;
  try {
    fd = createUnnamedFile();
    fs.writeFileSync(fd, bytes);
    return openDescriptor(fd);
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
    return withNewPath((file) => fs.openSync(file, "wx+", 0o600));
  }
}

function openRemovedFile(bytes: Uint8Array): Addon {
  try {
    if (!isOwnPath(fs.realpathSync(tmpdir()))) {
      throw new Error("other users may replace its files");
    }
    return withNewPath((file) => {
      fs.writeFileSync(file, bytes, { flag: "wx", mode: 0o600 });
      return open(file);
    });
  } catch (error) {
    throw cannotLoad(tmpdir(), error, OTHER_FOLDER);
  }
}

/** Calls a function with the path of a file in a new folder, and removes both. */
function withNewPath<Result>(body: (file: string) => Result): Result {
  const folder = fs.mkdtempSync(join(tmpdir(), "portalock-"));
  const file = join(folder, "addon.node");
  try {
    return body(file);
  } finally {
    fs.rmSync(file, { force: true });
    fs.rmdirSync(folder);
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
  let folder = "%USERPROFILE%";
  try {
    // Not tmpdir(): a service may have that of Windows, in which others create
    // files.
    folder = join(homedir(), "AppData", "Local", "Temp");
    const hash = nodeCrypto().createHash("sha256").update(bytes).digest("hex")
      .slice(0, 16);
    const file = join(folder, `portalock-${hash}.node`);
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
  const isDenied = errorCode(cause) === "ERR_ACCESS_DENIED";
  const first = isDenied ? `pass --allow-fs-write=${folder}` : remedy;
  return new Unsupported(
    `Node ${process.version} cannot load native code from the folder ` +
      `${JSON.stringify(folder)} (${reason}); ${first}, or copy the folder ` +
      "dist/native of the npm package @x/portalock beside the bundle, as native",
    { cause },
  );
}
