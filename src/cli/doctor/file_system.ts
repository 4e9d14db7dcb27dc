/** Which file system a path is on, and what its options mean for locks. */

import type { FileSystemReport, LockerName } from "./types.ts";

/**
 * Returns the file system of a real path.
 *
 * @param mountinfo The content of `/proc/self/mountinfo`: see
 * proc_pid_mountinfo(5).
 */
export function findFileSystem(
  mountinfo: string,
  realPath: string,
): FileSystemReport | null {
  let found: FileSystemReport | null = null;
  for (const line of mountinfo.split("\n")) {
    const mount = parseMount(line);
    if (mount === null || !contains(mount.mountPoint, realPath)) continue;
    // Of two mounts at one path, the later one hides the other.
    if (found && mount.mountPoint.length < found.mountPoint.length) continue;
    found = mount;
  }
  return found;
}

function parseMount(line: string): FileSystemReport | null {
  const fields = line.split(" ");
  const separator = fields.indexOf("-", 6);
  if (separator < 0) return null;
  const [type = "", source = "", superOptions = ""] = fields.slice(
    separator + 1,
  );
  const options = [...(fields[5] ?? "").split(","), ...superOptions.split(",")];
  return {
    type,
    source: unescapeOctal(source),
    mountPoint: unescapeOctal(fields[4] ?? ""),
    options: [...new Set(options.filter((each) => each !== ""))]
      .map(unescapeOctal),
  };
}

function contains(mountPoint: string, path: string): boolean {
  return mountPoint === "/" || path === mountPoint ||
    path.startsWith(`${mountPoint}/`);
}

function unescapeOctal(text: string): string {
  return text.replace(
    /\\([0-7]{3})/g,
    (_, digits) => String.fromCharCode(parseInt(digits, 8)),
  );
}

/** Which locks a mount option keeps on this machine, and by which manual. */
export interface LocalLocks {
  readonly lockers: readonly LockerName[];
  readonly option: string;
  readonly manual: string;
}

const RECORDS: readonly LockerName[] = ["ofd", "lockf"];
const ALL: readonly LockerName[] = ["flock", ...RECORDS];

const LOCAL_LOCKS: readonly {
  types: RegExp;
  option: RegExp;
  lockers: readonly LockerName[];
  manual: string;
}[] = [
  {
    types: /^nfs4?$/,
    option: /^(nolock|local_lock=all)$/,
    lockers: ALL,
    manual: "nfs(5)",
  },
  {
    types: /^nfs4?$/,
    option: /^local_lock=flock$/,
    lockers: ["flock"],
    manual: "nfs(5)",
  },
  {
    types: /^nfs4?$/,
    option: /^local_lock=posix$/,
    lockers: RECORDS,
    manual: "nfs(5)",
  },
  {
    types: /^(cifs|smb3)$/,
    option: /^nobrl$/,
    lockers: ALL,
    manual: "mount.cifs(8)",
  },
  {
    types: /^lustre$/,
    option: /^localflock$/,
    lockers: ALL,
    manual: "mount.lustre(8)",
  },
  {
    types: /^gfs2$/,
    option: /^localflocks$/,
    lockers: ALL,
    manual: "gfs2(5)",
  },
  {
    types: /^ocfs2$/,
    option: /^localflocks$/,
    lockers: ["flock"],
    manual: "its manual",
  },
];

/** Returns which locks are kept on this machine, if any are. */
export function localLocks(
  { type, options }: FileSystemReport,
): LocalLocks | null {
  for (const { types, option, lockers, manual } of LOCAL_LOCKS) {
    if (!types.test(type)) continue;
    const found = options.find((each) => option.test(each));
    if (found !== undefined) return { lockers, option: found, manual };
  }
  return null;
}
