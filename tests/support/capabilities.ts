/** What a test may need from the machine, the system or the runtime. */

import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { platform } from "../../ffi/mod.ts";
import { errorCode } from "../../ffi/types.ts";
import { setAccessList } from "./access_lists.ts";
import type { AccessList } from "./access_lists.ts";
import { addonRuntimes, runtimes, testEnv } from "./env.ts";
import { tempDir } from "./temp_dir.ts";

const isLinux = process.platform === "linux";
const isWindows = process.platform === "win32";

/** The checks by name. A test that needs a missing capability is skipped. */
const CAPABILITIES = {
  "file descriptors": () => hasFileDescriptors(),
  "an id of this machine": () => platform().machineId() !== null,
  "inotify(7)": () => isLinux && hasFileDescriptors(),
  "record locks independent of flock(2)": () => isLinux && hasFileDescriptors(),
  "Python's portalocker": () => testEnv.python !== null,
  "Python's portalocker 4": () =>
    testEnv.python !== null && testEnv.newerPortalocker !== null,
  "Python's RedisLock": () => importsRedisLock(),
  "redis-server": () => hasServer("redis-server"),
  "Bun's RedisClient": () => "bun" in process.versions,
  "valkey-server": () => hasServer("valkey-server"),
  "the oldest Deno and Bun": () => testEnv.oldest.length === 2,
  "one lock per open file": () => !isWindows,
  "stacked locks": () => isWindows,
  "record locks": () => !isWindows && hasFileDescriptors(),
  "symbolic links": () => canCreate((path) => fs.symlinkSync("a", path)),
  "hard links": () =>
    canCreate((path) => {
      fs.writeFileSync(`${path}b`, "");
      fs.linkSync(`${path}b`, path);
    }),
  "PID namespaces": () =>
    succeeds("unshare", "--pid", "--fork", "--mount-proc", "true"),
  "PIDs that can be chosen": () => {
    const file = "/proc/sys/kernel/ns_last_pid";
    return succeeds("sh", "-c", `pid=$(cat ${file}) && echo $pid > ${file}`);
  },
  "permission bits": () =>
    canCreate((path) => fs.writeFileSync(path, "", { mode: 0o600 }), 0o600),
  "atomic upgrades": () => !isWindows,
  "signals": () => !isWindows,
  // Wine's server never closes a socket that the killed process read from.
  "sockets that close when their process is killed": () => !isWindows,
  "sh(1)": () => succeeds("sh", "-c", "true"),
  "/proc": () => isLinux,
  "unlinking open files": () =>
    canCreate((path) => {
      const fd = fs.openSync(path, "w");
      fs.unlinkSync(path);
      fs.writeFileSync(path, "", { flag: "wx" });
      fs.closeSync(fd);
    }),
  "replacing open files": () =>
    canCreate((path) => {
      const fd = fs.openSync(path, "w");
      fs.writeFileSync(`${path}b`, "");
      try {
        fs.renameSync(`${path}b`, path);
      } finally {
        fs.closeSync(fd);
      }
    }),
  "line breaks and quotes in file names": () =>
    canCreate((path) => {
      fs.writeFileSync(path, "");
      fs.writeFileSync(`${path}"\n`, "");
    }),
  "POSIX error codes": () => hasPosixErrorCodes(),
  "Linux errno values": () => isLinux,
  "mkfifo(1)": () => hasProgram("mkfifo"),
  "lockable devices": () => !isWindows,
  "a program that locks as Python does on Windows": () =>
    testEnv.peer !== undefined,
  "names of lock holders": () => isLinux,
  "flock(1)": () => hasProgram("flock"),
  "cc(1)": () => !isWindows && hasProgram("cc"),
  "cc(1) on Linux": () => isLinux && hasProgram("cc"),
  "musl-gcc(1)": () => isLinux && hasProgram("musl-gcc"),
  "a Bun for musl": () => (testEnv.musl ?? null) !== null,
  "strace(1)": () =>
    succeeds("strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "true"),
  "bindfs(1) and FUSE": () =>
    hasProgram("bindfs") && succeeds("test", "-c", "/dev/fuse"),
  "libfuse3, cc(1), and root that can mount": () =>
    hasProgram("cc") && succeeds("test", "-c", "/dev/fuse") &&
    fs.existsSync("/usr/include/fuse3/fuse.h") && canMount(),
  "user namespaces": () =>
    succeeds("unshare", "--user", "--map-root-user", "true"),
  "access lists": () => hasAccessLists(),
  "visible access lists": () =>
    hasAccessLists() && platform().attributes !== undefined,
  "root": () => process.getuid?.() === 0,
  "root that can mount": () => canMount(),
  "setpriv(1)": () => hasProgram("setpriv"),
  "protected_symlinks that can be changed": () =>
    isLinux &&
    succeeds("sh", "-c", "exec 3>>/proc/sys/fs/protected_symlinks"),
  "python3(1)": () => hasProgram("python3"),
  "bash(1)": () => hasProgram("bash"),
  "zsh(1)": () => hasProgram("zsh"),
  "fish(1)": () => hasProgram("fish"),
  "bash-completion": () =>
    fs.existsSync("/usr/share/bash-completion/bash_completion"),
  "protected_regular": () => !/^0/.test(readSysctl("fs/protected_regular")),
  "Node": () => addonRuntimes.length > 0,
  "Bun": () => runtimes.some(({ name }) => name === "bun"),
  "Deno": () => runtimes.some(({ name }) => name === "deno"),
  "Deno, Bun and Node": () =>
    ["deno", "bun", "node", "node26"].every((name) =>
      runtimes.some((runtime) => runtime.name === name)
    ),
} satisfies Record<string, () => boolean>;

/** The name of a capability. */
export type Capability = keyof typeof CAPABILITIES;

/** Checks whether a capability exists here. */
export const hasCapability = (capability: Capability): boolean =>
  CAPABILITIES[capability]();

function importsRedisLock(): boolean {
  const { python } = testEnv;
  return python !== null && succeeds(python, "-c", "import portalocker.redis");
}

/**
 * Checks whether a call creates a file or link at a path, with these permission
 * bits if they are given.
 */
function canCreate(call: (path: string) => void, bits?: number): boolean {
  using dir = tempDir();
  const path = join(dir.path, "a");
  try {
    call(path);
    const { mode } = fs.lstatSync(path);
    return bits === undefined || (mode & 0o777) === bits;
  } catch {
    return false;
  }
}

function hasProgram(command: string): boolean {
  return succeeds(command, "--version");
}

function hasServer(program: string): boolean {
  return testEnv.host?.programs.includes(program) ?? hasProgram(program);
}

function succeeds(command: string, ...args: string[]): boolean {
  return spawnSync(command, args).status === 0;
}

/** POSIX reports `ENOTDIR` for a path below a file, other systems `ENOENT`. */
function hasPosixErrorCodes(): boolean {
  using dir = tempDir();
  const path = join(dir.path, "a");
  fs.writeFileSync(path, "");
  try {
    fs.lstatSync(join(path, "b"));
  } catch (error) {
    return errorCode(error) === "ENOTDIR";
  }
  return false;
}

function canMount(): boolean {
  if (process.getuid?.() !== 0) return false;
  using dir = tempDir();
  const mounted = succeeds("mount", "-t", "tmpfs", "none", dir.path);
  if (mounted) spawnSync("umount", [dir.path]);
  return mounted;
}

function hasAccessLists(): boolean {
  const [owner, group, mask, others] = [6, 0, 6, 0];
  const list = {
    owner,
    user: [1, 6],
    group,
    mask,
    others,
  } satisfies AccessList;
  return canCreate((path) => {
    fs.writeFileSync(path, "", { mode: 0o600 });
    setAccessList(path, list);
  }, 0o660);
}

function hasFileDescriptors(): boolean {
  try {
    platform().fromFd(0);
    return true;
  } catch {
    return false;
  }
}

/** Returns a value of proc_sys(5), or "0" if it does not exist. */
function readSysctl(name: string): string {
  return spawnSync("cat", [`/proc/sys/${name}`], { encoding: "utf8" }).stdout ||
    "0";
}
