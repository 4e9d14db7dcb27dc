/**
 * Finds out which paths are on file systems of this machine. Does not ask the
 * file systems: if a server does not answer, statfs(2) blocks the thread, and
 * so does lstat(2) of its directory.
 *
 * The mount table says where each file system begins. A path is followed from
 * `/`, one name at a time, and only within mounts of {@linkcode LOCAL_TYPES}.
 * So a local file system answers each readlink(2). A path that crosses any
 * other mount is not local. Without a mount table, no path is local.
 */

import type { LocalPaths, OpenMode } from "../types.ts";

/**
 * File systems that never wait for another machine or for a program in user
 * space, by the names of proc_filesystems(5). Any other one is treated as slow.
 */
const LOCAL_TYPES: ReadonlySet<string> = new Set([
  "bcachefs",
  "btrfs",
  // Devices are opened with `O_NONBLOCK`.
  "devtmpfs",
  "exfat",
  "ext2",
  "ext3",
  "ext4",
  "f2fs",
  "jfs",
  "msdos",
  "nilfs2",
  "ntfs3",
  "overlay",
  "ramfs",
  "reiserfs",
  "rootfs",
  "tmpfs",
  "vfat",
  "xfs",
  "zfs",
]);

/** How long a path stays known, in milliseconds. */
const MAX_AGE_MS = 1000;

/**
 * For each millisecond of its age, the mount table may have this many
 * characters. To read 2,000 of them takes 25 µs, and some tables have a million.
 */
const TABLE_LENGTH_PER_MS = 4096;

/** How many paths are known before all are forgotten. */
const MAX_KNOWN_PATHS = 10_000;

/** The kernel follows as many symbolic links: path_resolution(7). */
const MAX_LINKS = 40;

/** The mount points by path, and whether each file system is local. */
export type Mounts = ReadonlyMap<string, boolean>;

/** What {@linkcode MountTable} asks the system. */
export interface MountSource {
  /** Returns the content of a file of /proc, if it can be read. */
  read(path: string): string | undefined;
  /** Returns the target of a symbolic link, `undefined` for anything else. */
  readLink(path: string): string | undefined;
}

/**
 * The {@linkcode LocalPaths} of Linux.
 *
 * The mount table is read again for a directory that is not known, so a new
 * mount is noticed at its first use. Directories and files are known for a
 * second. So a file system that is mounted over a known path, a link that is
 * replaced, and a change of the current directory are noticed a second later.
 */
export class MountTable implements LocalPaths {
  readonly #source: MountSource;
  readonly #files = new Map<string, boolean>();
  /** The real paths of directories, or `null` if one is not local. */
  readonly #directories = new Map<string, string | null>();
  #mounts: Mounts = new Map();
  #mountsRead = 0;
  /** How long they are valid, in milliseconds. */
  #mountsMaxAge = 0;
  /** When the oldest known path was entered. */
  #since = 0;

  constructor(source: MountSource) {
    this.#source = source;
  }

  hasFile(path: string, { exclusive }: Pick<OpenMode, "exclusive">): boolean {
    const age = Date.now() - this.#since;
    // Negative if the clock was set back.
    if (age < 0 || age >= MAX_AGE_MS) this.#forget();
    // With `O_EXCL`, open(2) does not follow a link.
    if (exclusive) return this.#directory(directoryOf(path)) !== null;
    let local = this.#files.get(path);
    if (local === undefined) {
      const directory = this.#directory(directoryOf(path));
      local = directory !== null &&
        this.#follow(directory, nameOf(path)) !== null;
      if (this.#files.size >= MAX_KNOWN_PATHS) this.#forget();
      this.#files.set(path, local);
    }
    return local;
  }

  hasDirectory(path: string): boolean {
    const age = Date.now() - this.#since;
    if (age < 0 || age >= MAX_AGE_MS) this.#forget();
    return this.#directory(path) !== null;
  }

  #directory(path: string): string | null {
    let real = this.#directories.get(path);
    if (real === undefined) {
      this.#readMounts();
      const { readLink } = this.#source;
      const start = path.startsWith("/") ? "/" : readLink("/proc/self/cwd");
      // The directory may be outside of the root: "(unreachable)/tmp".
      real = start?.startsWith("/")
        ? this.#follow("", `${start}/${path}`)
        : null;
      if (this.#directories.size >= MAX_KNOWN_PATHS) this.#forget();
      this.#directories.set(path, real);
    }
    return real;
  }

  #readMounts(): void {
    const now = Date.now();
    const age = now - this.#mountsRead;
    if (age >= 0 && age < this.#mountsMaxAge) return;
    const text = this.#source.read("/proc/self/mountinfo") ?? "";
    this.#mounts = parseMounts(text);
    this.#mountsRead = now;
    this.#mountsMaxAge = text.length / TABLE_LENGTH_PER_MS;
  }

  #follow(start: string, path: string): string | null {
    return followLocal(start, path, this.#mounts, this.#source.readLink);
  }

  #forget(): void {
    this.#since = Date.now();
    this.#files.clear();
    this.#directories.clear();
  }
}

/** The directory part of a path, which is not normalized. */
function directoryOf(path: string): string {
  const end = path.lastIndexOf("/") + 1;
  return end === 0 ? "." : path.slice(0, end);
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Parses `/proc/self/mountinfo`: proc_pid_mountinfo(5). */
export function parseMounts(mountinfo: string): Mounts {
  const mounts = new Map<string, boolean>();
  for (const line of mountinfo.split("\n")) {
    const fields = line.split(" ");
    const [type = "", _source, options = ""] = fields.slice(
      fields.indexOf("-", 6) + 1,
    );
    const point = unescapeOctal(fields[4] ?? "");
    const local = LOCAL_TYPES.has(type) &&
      layersOf(type, options).every((path) => mountOf(path, mounts) ?? true);
    // A mount may hide another one at the same path, and then be removed.
    if (point) mounts.set(point, local && mounts.get(point) !== false);
  }
  return mounts;
}

/**
 * Returns the directories of which an overlay consists. The paths are those of
 * the mount namespace in which it was mounted, so they may name nothing here.
 */
function layersOf(type: string, options: string): string[] {
  if (type !== "overlay") return [];
  return unescapeOctal(options).split(",")
    .filter((option) => /^(lowerdir|upperdir|datadir)\+?=/.test(option))
    .flatMap((option) => option.slice(option.indexOf("=") + 1).split(":"));
}

/** Returns whether the mount that contains a path is local, if it is listed. */
function mountOf(path: string, mounts: Mounts): boolean | undefined {
  for (let at = path; at.startsWith("/"); at = parentOf(at)) {
    const local = mounts.get(at);
    if (local !== undefined || at === "/") return local;
  }
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}

function unescapeOctal(text: string): string {
  return text.replace(
    /\\([0-7]{3})/g,
    (_, digits) => String.fromCharCode(parseInt(digits, 8)),
  );
}

/**
 * Follows a path as open(2) would, while it stays on local file systems.
 *
 * @param start The real path of a local directory: `""` for `/`.
 * @param path The path below it.
 * @returns The real path, or `null` if a name on the way is not local. A name
 * that does not exist, or that may not be searched, is local: open(2) would not
 * come further.
 */
export function followLocal(
  start: string,
  path: string,
  mounts: Mounts,
  readLink: MountSource["readLink"],
): string | null {
  if (!mounts.get("/")) return null;
  const names = path.split("/").reverse();
  let real = start;
  for (let name, links = 0; (name = names.pop()) !== undefined;) {
    if (name === "" || name === ".") continue;
    if (name === "..") {
      real = real.slice(0, real.lastIndexOf("/"));
      continue;
    }
    const next = `${real}/${name}`;
    const mounted = mounts.get(next);
    if (mounted === false) return null;
    // A mount that is hidden by a later one may be a link there.
    const target = readLink(next);
    if (target === undefined) real = next;
    else if (++links > MAX_LINKS || target.includes("\uFFFD")) return null;
    else {
      if (target.startsWith("/")) real = "";
      names.push(...target.split("/").reverse());
    }
  }
  return real;
}
