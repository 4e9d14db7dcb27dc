/**
 * Runs a command so that nothing of it remains when it is killed: no child
 * process, running or stopped, no server that became a daemon, and no mounted
 * file system.
 *
 * The command runs in its own process group and with its own `TMPDIR`. A
 * process group does not contain daemons, so processes are also found by their
 * parents and by the `TMPDIR` in their environment.
 */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";

/** The name of each temporary folder, followed by the PID of its owner. */
export const TEMP_FOLDER_PREFIX = "portalock-run-";

/** How often processes are searched and killed before that is given up. */
const MAX_SWEEPS = 50;
const SWEEP_DELAY_MS = 40;

/** How long another program may take to read `/proc` or to unmount. */
const HELPER_TIMEOUT_MS = 5_000;

/** How a process tree ended. */
export interface Exit {
  status: number | NodeJS.Signals | null;
  /** Whether it was killed at its time limit. */
  timedOut: boolean;
  /** Descriptions of what could not be removed. */
  leftovers: string[];
}

/** The command and where it runs. */
export interface TreeOptions {
  cwd: string;
  env: NodeJS.ProcessEnv;
  /** A file descriptor for standard output and standard error. */
  output: number;
  timeoutMs: number;
}

/** A running command and all its descendants. */
export class ProcessTree {
  static readonly #running = new Set<ProcessTree>();

  readonly folder: string;
  /** Resolves when the command has ended and nothing of it remains. */
  readonly ended: Promise<Exit>;
  readonly #child: ChildProcess;
  #timedOut = false;

  /** Starts a command. */
  constructor(
    command: readonly [string, ...string[]],
    { cwd, env, output, timeoutMs }: TreeOptions,
  ) {
    // Short, because the path of a Unix socket has at most 107 bytes.
    this.folder = mkdtempSync(
      join(tmpdir(), `${TEMP_FOLDER_PREFIX}${process.pid}-`),
    );
    // As /tmp: some tests use it as another user.
    chmodSync(this.folder, 0o1777);
    const [program, ...args] = command;
    this.#child = spawn(program, args, {
      cwd,
      env: {
        ...env,
        TMPDIR: this.folder,
        ...process.platform === "win32"
          ? { TEMP: this.folder, TMP: this.folder }
          : {},
      },
      stdio: ["ignore", output, output],
      detached: process.platform !== "win32",
    });
    ProcessTree.#running.add(this);
    this.ended = this.#untilEnded(timeoutMs);
  }

  /** Kills every running tree, for example because of Ctrl-C. */
  static async killAll(): Promise<void> {
    const running = [...ProcessTree.#running];
    for (const tree of running) tree.#killGroup();
    await Promise.all(running.map((tree) => tree.ended));
  }

  async #untilEnded(timeoutMs: number): Promise<Exit> {
    const timer = setTimeout(() => {
      this.#timedOut = true;
      // A blocked thread does not handle any other signal.
      this.#killGroup();
      // A process in a FUSE call only dies when its server has died.
      void killDescendants(this.#child.pid, this.folder);
    }, timeoutMs);
    const status = await new Promise<Exit["status"]>((resolve, reject) => {
      this.#child.on("error", reject);
      this.#child.on("exit", (code, signal) => resolve(code ?? signal));
    }).finally(() => clearTimeout(timer));
    const leftovers = await removeTree(this.#child.pid, this.folder);
    ProcessTree.#running.delete(this);
    return { status, timedOut: this.#timedOut, leftovers };
  }

  #killGroup(): void {
    const { pid } = this.#child;
    if (pid === undefined) return;
    if (process.platform === "win32") {
      spawnSync("taskkill", ["/T", "/F", "/PID", `${pid}`]);
    } else kill(-pid);
  }
}

/**
 * Removes what earlier runs left because they were killed themselves: their
 * processes, mounts and temporary folders.
 */
export async function removeLeftovers(): Promise<void> {
  for (const name of readdirSync(tmpdir())) {
    const owner = new RegExp(`^${TEMP_FOLDER_PREFIX}(\\d+)-`).exec(name)?.[1];
    if (owner === undefined || isAlive(Number(owner))) continue;
    await removeTree(undefined, join(tmpdir(), name));
  }
}

/** Kills what remains of a tree and removes its folder. */
async function removeTree(
  group: number | undefined,
  folder: string,
): Promise<string[]> {
  const left = await killDescendants(group, folder);
  const unmounted = unmountBelow(folder);
  try {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  } catch (error) {
    left.push(`${folder}: ${error}`);
  }
  return [...left, ...unmounted];
}

/** Kills processes until none is found; returns those that do not die. */
async function killDescendants(
  group: number | undefined,
  folder: string,
): Promise<string[]> {
  if (process.platform === "win32") return [];
  let found: ProcessEntry[] = [];
  for (let sweep = 0; sweep < MAX_SWEEPS; sweep++) {
    found = membersOf(group);
    for (const { pid } of found) kill(pid);
    // While a stopped FUSE server is alive, reading the environment of its
    // clients may block, so this comes after killing the group.
    abortFuse(folder);
    const byEnvironment = withTemporaryFolder(folder);
    for (const { pid } of byEnvironment) kill(pid);
    found.push(...byEnvironment);
    if (found.length === 0) return [];
    await delay(SWEEP_DELAY_MS);
  }
  return found.map(({ pid, name }) => `process ${pid} (${name})`);
}

interface ProcessEntry {
  pid: number;
  name: string;
  parent: number;
  group: number;
}

/** Returns the processes of a group, and their descendants. */
function membersOf(group: number | undefined): ProcessEntry[] {
  if (group === undefined) return [];
  const all = listProcesses();
  const members = all.filter((entry) => entry.group === group);
  for (const member of members) {
    for (const entry of all) {
      if (entry.parent === member.pid && !members.includes(entry)) {
        members.push(entry);
      }
    }
  }
  return members.filter(({ pid }) => pid !== process.pid);
}

/** Lists processes, except zombies, without blocking on any of them. */
function listProcesses(): ProcessEntry[] {
  if (process.platform !== "linux") return listByPs();
  return processIds().flatMap((pid) => {
    try {
      // proc(5): unlike cmdline and environ, stat does not need the memory of
      // the process, which a call to a stopped FUSE server locks.
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const end = stat.lastIndexOf(")");
      const [state, parent, group] = stat.slice(end + 2).split(" ");
      if (state === "Z" || state === "X") return [];
      const name = stat.slice(stat.indexOf("(") + 1, end);
      return [{ pid, name, parent: Number(parent), group: Number(group) }];
    } catch {
      return [];
    }
  });
}

function listByPs(): ProcessEntry[] {
  const args = ["-A", "-o", "pid=,ppid=,pgid=,stat=,comm="];
  const { stdout } = spawnSync("ps", args, {
    encoding: "utf8",
    timeout: HELPER_TIMEOUT_MS,
  });
  return (stdout ?? "").split("\n").flatMap((line) => {
    const [pid, parent, group, state, name] = line.trim().split(/\s+/);
    if (name === undefined || state?.startsWith("Z")) return [];
    return [{
      pid: Number(pid),
      name,
      parent: Number(parent),
      group: Number(group),
    }];
  });
}

function processIds(): number[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number);
}

/** Returns the processes whose `TMPDIR` is this folder or below it. */
function withTemporaryFolder(folder: string): ProcessEntry[] {
  if (process.platform !== "linux") return [];
  // Another process reads, with a time limit, because the reader may block.
  // A test of this script has its own folder in that of the script's tests.
  const script = `cd /proc && grep -lzE "^TMPDIR=$1(/|$)" [0-9]*/environ`;
  const { stdout } = spawnSync("sh", ["-c", script, "sh", folder], {
    encoding: "utf8",
    timeout: HELPER_TIMEOUT_MS,
    killSignal: "SIGKILL",
    stdio: ["ignore", "pipe", "ignore"],
  });
  const pids = [...(stdout ?? "").matchAll(/^(\d+)\/environ$/gm)]
    .map(([, pid]) => Number(pid));
  return listProcesses().filter(({ pid }) => pids.includes(pid));
}

/** Ends the FUSE connections of mounts below a folder, as in fuse(4). */
function abortFuse(folder: string): void {
  for (const { device, type } of mountsBelow(folder)) {
    if (!type.startsWith("fuse")) continue;
    const file = `/sys/fs/fuse/connections/${device.split(":")[1]}/abort`;
    try {
      if (existsSync(file)) writeFileSync(file, "1");
    } catch {
      // Only root and the owner of the mount may write to it.
    }
  }
}

/** Unmounts file systems below a folder; returns those that stay. */
function unmountBelow(folder: string): string[] {
  abortFuse(folder);
  for (const { path } of mountsBelow(folder).reverse()) {
    for (
      const [program, ...args] of [
        ["umount", "-l", path] as const,
        ["fusermount", "-uz", path] as const,
      ]
    ) {
      const { status } = spawnSync(program, args, {
        stdio: "ignore",
        timeout: HELPER_TIMEOUT_MS,
        killSignal: "SIGKILL",
      });
      if (status === 0) break;
    }
  }
  return mountsBelow(folder).map(({ path }) => `mount ${path}`);
}

/** Reads the mounts from proc(5), which does not access the file systems. */
function mountsBelow(
  folder: string,
): { path: string; device: string; type: string }[] {
  if (process.platform !== "linux") return [];
  return readFileSync("/proc/self/mountinfo", "utf8").split("\n")
    .flatMap((line) => {
      const [, , device, , path = ""] = line.split(" ");
      const type = line.split(" - ")[1]?.split(" ")[0] ?? "";
      const unescaped = path.replace(
        /\\(\d{3})/g,
        (_, octal: string) => String.fromCharCode(parseInt(octal, 8)),
      );
      return device !== undefined && unescaped.startsWith(`${folder}/`)
        ? [{ path: unescaped, device, type }]
        : [];
    });
}

/** Sends SIGKILL, which also ends stopped processes. */
function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It ended in the meantime.
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}
