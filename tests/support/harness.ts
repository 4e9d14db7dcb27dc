/** What every test file uses: tests with needs, folders, child processes. */

import { spawn, spawnSync } from "node:child_process";
import type { ChildProcessWithoutNullStreams } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { test as nodeTest } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { platform, setPlatformForTesting } from "../../ffi/mod.ts";
import { errorCode } from "../../ffi/types.ts";
import type { Platform, PlatformFile } from "../../ffi/types.ts";

/** A runtime that tests can start child processes on. */
export interface TestRuntime {
  name: string;
  command: string[];
  /** Holds `mod` and `tests/`, with this extension. */
  directory: string;
  extension: ".ts" | ".js";
}

/** The system below Wine, which starts servers for programs under it. */
export interface Host {
  port: number;
  /** Without it nothing is started. */
  secret: string;
  /** What it has. */
  programs: string[];
}

/** What `scripts/test.mjs` tells its test processes. */
interface Surroundings {
  /** The checkout. */
  root: string;
  runtimes: TestRuntime[];
  /** A Python that has portalocker. */
  python: string | null;
  /** A folder with a newer portalocker than Debian's, and a redis-py. */
  newerPortalocker: string | null;
  /** The oldest versions that are supported. */
  oldest: TestRuntime[];
  /** A Bun whose C library is musl. */
  musl?: TestRuntime | null;
  /** A program that locks as Python does on Windows. */
  peer?: string;
  /** Where servers are started; here, if it is not given. */
  host?: Host;
}

/** What holds `mod` and `tests/`. */
const here = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

/** The surroundings, or without the script: this runtime alone. */
export const surroundings: Surroundings = process.env.PORTALOCK_TEST
  ? JSON.parse(process.env.PORTALOCK_TEST)
  : {
    root: here,
    runtimes: [],
    python: null,
    newerPortalocker: null,
    oldest: [],
  };

const isDeno = "Deno" in globalThis;

/** This runtime, for child processes of the same kind. */
export const self: TestRuntime = {
  name: isDeno ? "deno" : process.versions.bun ? "bun" : "node",
  command: isDeno
    ? [process.execPath, "run", "-A", "--no-check", "-q"]
    : [process.execPath],
  directory: here,
  extension: import.meta.url.endsWith(".ts") ? ".ts" : ".js",
};

/** {@linkcode self}, and without FFI where this process goes without. */
export function ownCommand(script: string): string[] {
  const command = isDeno && !hasDescriptors()
    ? [process.execPath, "run", "--allow-read", "--allow-write", "-q"]
    : self.command;
  const fixtures = join(self.directory, "tests", "fixtures");
  return [...command, join(fixtures, script) + self.extension];
}

/** Every runtime to run children on. */
export const runtimes: TestRuntime[] = surroundings.runtimes.length > 0
  ? surroundings.runtimes
  : [self];

/** Deno that may do everything but call C. */
const withoutFfi = runtimes.filter(({ name }) => name === "deno").map(
  (runtime) => {
    const [program] = runtime.command;
    const allowed = ["read", "write", "run", "env", "sys"];
    const options = allowed.map((name) => `--allow-${name}`);
    const command = [program, "run", "--no-check", "-q", ...options];
    return { ...runtime, name: "deno without FFI", command };
  },
);

/** {@linkcode runtimes}, and Deno without FFI. */
export const everyRuntime: TestRuntime[] = [...runtimes, ...withoutFfi];

/** The command that runs a script of `tests/fixtures` on a runtime. */
export function scriptOn(
  { command, directory, extension }: TestRuntime,
  name: string,
): string[] {
  return [...command, join(directory, "tests", "fixtures", name) + extension];
}

/** What a test may need; one that is missing skips the test by name. */
const CAPABILITIES = {
  descriptors: () => hasDescriptors(),
  "inotify(7)": () => process.platform === "linux" && hasDescriptors(),
  "record locks apart from flock(2)": () =>
    process.platform === "linux" && hasDescriptors(),
  "Python's portalocker": () => surroundings.python !== null,
  "Python's portalocker 4": () =>
    surroundings.python !== null && surroundings.newerPortalocker !== null,
  "Python's RedisLock": () => importsRedisLock(),
  "redis-server": () => serves("redis-server"),
  "valkey-server": () => serves("valkey-server"),
  "the oldest Deno and Bun": () => surroundings.oldest.length === 2,
  "locks of which a file has one": () => process.platform !== "win32",
  "locks that pile up": () => process.platform === "win32",
  "record locks": () => process.platform !== "win32" && hasDescriptors(),
  "symbolic links": () => tries((path) => fs.symlinkSync("a", path)),
  "permission bits": () =>
    tries((path) =>
      fs.writeFileSync(path, "", {
        mode: 0o600,
      }), 0o600),
  "upgrades without a gap": () => process.platform !== "win32",
  "signals": () => process.platform !== "win32",
  // Wine's server keeps those open, for good, that were being read from.
  "sockets that end with whoever is killed": () => process.platform !== "win32",
  "sh(1)": () => succeeds("sh", "-c", "true"),
  "/proc": () => process.platform === "linux",
  "unlinking what is open": () =>
    tries((path) => {
      const fd = fs.openSync(path, "w");
      fs.unlinkSync(path);
      fs.writeFileSync(path, "", { flag: "wx" });
      fs.closeSync(fd);
    }),
  "replacing what is open": () =>
    tries((path) => {
      const fd = fs.openSync(path, "w");
      fs.writeFileSync(`${path}b`, "");
      try {
        fs.renameSync(`${path}b`, path);
      } finally {
        fs.closeSync(fd);
      }
    }),
  "line breaks and quotes in names": () =>
    tries((path) => {
      fs.writeFileSync(path, "");
      fs.writeFileSync(`${path}"\n`, "");
    }),
  "the names that POSIX gives to errors": () => namesErrorsAsPosix(),
  "the numbers that Linux gives to errors": () => process.platform === "linux",
  "mkfifo(1)": () => has("mkfifo"),
  "devices that can be locked": () => process.platform !== "win32",
  "a program that locks as Python does on Windows": () =>
    surroundings.peer !== undefined,
  "names of lock holders": () => process.platform === "linux",
  "flock(1)": () => has("flock"),
  "cc(1)": () => process.platform !== "win32" && has("cc"),
  "cc(1) on Linux": () => process.platform === "linux" && has("cc"),
  "musl-gcc(1)": () => process.platform === "linux" && has("musl-gcc"),
  "a Bun for musl": () => (surroundings.musl ?? null) !== null,
  "strace(1)": () => succeeds("strace", "-o", "/dev/null", "true"),
  "bindfs(1) and FUSE": () =>
    has("bindfs") && succeeds("test", "-c", "/dev/fuse"),
  "user namespaces": () =>
    succeeds("unshare", "--user", "--map-root-user", "true"),
  "root": () => process.getuid?.() === 0,
  "root that mounts": () => mounts(),
  "setpriv(1)": () => has("setpriv"),
  "protected_regular": () => !/^0/.test(setting("fs/protected_regular")),
  "Deno": () => runtimes.some(({ name }) => name === "deno"),
  "Deno, Bun and Node": () =>
    ["deno", "bun", "node", "node26"].every((name) =>
      runtimes.some((runtime) => runtime.name === name)
    ),
} satisfies Record<string, () => boolean>;

export type Capability = keyof typeof CAPABILITIES;

/** Whether there is what some assertions of a test need. */
export const can = (capability: Capability): boolean =>
  CAPABILITIES[capability]();

/** Long enough for what a loaded machine can do to a test that passes. */
const TIMEOUT = 120_000;

/** A test of `node:test` that says what it needs. */
export function test(
  name: string,
  body: () => void | Promise<void>,
  ...needs: Capability[]
): void {
  const missing = needs.filter((need) => !CAPABILITIES[need]());
  if (missing.length > 0) {
    console.log(`SKIPPED ${name}: needs ${missing.join(" and ")}`);
    nodeTest(name, { skip: `needs ${missing.join(" and ")}` }, () => {});
  } else {
    nodeTest(name, { timeout: TIMEOUT }, async () => await body());
  }
}

/** A fresh folder with a name that needs care, removed when disposed. */
export function folder(): { path: string } & Disposable {
  const path = fs.mkdtempSync(join(tmpdir(), "portalock test-"));
  return {
    path,
    [Symbol.dispose]() {
      removeAll(path);
    },
  };
}

/** Compiles a file of `tests/c` for this machine, until it is disposed. */
export function compiled(
  source: string,
  compiler: "cc" | "musl-gcc",
  ...options: string[]
): { path: string } & Disposable {
  const dir = folder();
  const path = join(dir.path, "compiled");
  const file = join(surroundings.root, "tests", "c", source);
  const { status, stderr } = spawnSync(
    compiler,
    ["-Wall", "-Wextra", "-Werror", ...options, "-o", path, file],
    { encoding: "utf8" },
  );
  if (status !== 0) throw new Error(stderr);
  return { path, [Symbol.dispose]: () => dir[Symbol.dispose]() };
}

/** By hand, since Bun's own way is of no use under Wine. */
function removeAll(path: string): void {
  for (const entry of fs.readdirSync(path, { withFileTypes: true })) {
    const name = join(path, entry.name);
    if (entry.isDirectory()) removeAll(name);
    else removeFile(name);
  }
  fs.rmdirSync(path);
}

/** On Windows a name may stay in its folder until nobody has the file open. */
function removeFile(path: string): void {
  if (process.platform !== "win32") return fs.unlinkSync(path);
  const other = `${dirname(path)}.${basename(path)}`;
  fs.renameSync(path, other);
  fs.unlinkSync(other);
}

/** The names in a folder, in an order that all runtimes agree on. */
export function listing(path: string): string[] {
  return fs.readdirSync(path).sort();
}

/** How many descriptors a process has open on files below a folder. */
export function openDescriptors(
  below: string,
  pid: number = process.pid,
): number {
  if (process.platform !== "linux") return openFiles(below);
  return descriptorTargets(pid).filter((target) => target.startsWith(below))
    .length;
}

/**
 * Checks how many descriptors this process has open below a folder. What was
 * being opened when its wait ended may take a moment to be closed.
 */
export async function descriptorsLeft(
  below: string,
  count: number,
): Promise<void> {
  const end = performance.now() + 10_000;
  while (openDescriptors(below) !== count) {
    if (performance.now() > end) {
      const open = openDescriptors(below);
      throw new Error(`${open} descriptors are open, not ${count}`);
    }
    await delay(5);
  }
}

/** How many descriptors of this process name files below a folder. */
function openFiles(below: string): number {
  const id = ({ dev, ino }: fs.BigIntStats) => `${dev}:${ino}`;
  const isFolder = fs.lstatSync(below, { throwIfNoEntry: false })
    ?.isDirectory();
  const folder = isFolder ? below : dirname(below);
  const files = listing(folder).map((name) => join(folder, name))
    .filter((name) => name.startsWith(below))
    .map((name) => id(fs.lstatSync(name, { bigint: true })));
  const open = Array.from({ length: 512 }, (_, fd) => {
    try {
      return id(fs.fstatSync(fd, { bigint: true }));
    } catch {
      return "";
    }
  });
  return open.filter((file) => files.includes(file)).length;
}

/** Waits until a process has a file open; a while where nobody tells. */
export async function untilOpen(
  path: string,
  { process }: Worker,
): Promise<void> {
  if (!can("/proc")) return await delay(200);
  while (openDescriptors(path, process.pid) === 0) await delay(5);
}

/** What the descriptors of a process name. */
export function descriptorTargets(pid: number): string[] {
  // Another process looks: Deno wants every permission for /proc. It fails if
  // a descriptor goes away while it looks, and has listed the others then.
  const { stdout } = spawnSync("ls", ["-l", `/proc/${pid}/fd`], {
    encoding: "utf8",
  });
  return stdout.split("\n").flatMap((line) => line.split(" -> ")[1] ?? []);
}

/** How many files this process watches for being closed. */
export function watches(): number {
  if (!can("/proc")) return 0;
  const { stdout } = spawnSync("sh", [
    "-c",
    `cat /proc/${process.pid}/fdinfo/*`,
  ], { encoding: "utf8" });
  return [...stdout.matchAll(/^inotify wd:.* mask:18 /gm)].length;
}

/** A lock of whose release this process is told by the kernel alone. */
export function foreign(path: string): { release(): void } {
  const file = platform().openSync(
    path,
    { read: true, write: true, append: true, create: true, exclusive: false },
    0o666,
  );
  file.lock(true);
  let held = true;
  return {
    release() {
      if (held) file.closeSync();
      held = false;
    },
  };
}

/** Runs a body with a {@linkcode Platform} that is partly another. */
export async function withNative<T>(
  change: (real: Platform) => Partial<Platform>,
  body: () => T | Promise<T>,
): Promise<T> {
  const real = platform();
  setPlatformForTesting({ ...real, ...change(real) });
  try {
    return await body();
  } finally {
    setPlatformForTesting(real);
  }
}

/** {@linkcode withNative} that changes every file which is opened. */
export function withFiles<T>(
  change: (real: PlatformFile) => Partial<PlatformFile>,
  body: () => T | Promise<T>,
): Promise<T> {
  return withNative((real) => changedFiles(real, change), body);
}

function changedFiles(
  real: Platform,
  change: (real: PlatformFile) => Partial<PlatformFile>,
): Pick<Platform, "open" | "openSync"> {
  const changed = (file: PlatformFile): PlatformFile => {
    const other = change(file);
    return new Proxy(file, {
      get(target, name) {
        const value = Reflect.get(name in other ? other : target, name);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  };
  return {
    open(...how) {
      const file = real.open(...how);
      return file instanceof Promise ? file.then(changed) : changed(file);
    },
    openSync: (...how) => changed(real.openSync(...how)),
  };
}

/**
 * From now on pauses between attempts that are longer never end by themselves:
 * a wait ends when it is woken. Those that follow a release at once are short.
 */
export function onlyShortPauses(
  longest: number,
): { lengths: number[] } & Disposable {
  const lengths: number[] = [];
  const cut = (milliseconds: number, never: number) => {
    lengths.push(milliseconds);
    return milliseconds > longest ? never : milliseconds;
  };
  const real = platform();
  const { setTimeout } = globalThis;
  const change = (file: PlatformFile): Partial<PlatformFile> => ({
    watchClose(closed) {
      const watch = file.watchClose(closed);
      return watch && {
        ...watch,
        block: (milliseconds) => watch.block(cut(milliseconds, Infinity)),
      };
    },
  });
  setPlatformForTesting({ ...real, ...changedFiles(real, change) });
  globalThis.setTimeout = Object.assign(
    (callback: () => void, milliseconds: number) =>
      setTimeout(callback, cut(milliseconds, 2 ** 31 - 1)),
    setTimeout,
  ) as typeof setTimeout;
  return {
    lengths,
    [Symbol.dispose]() {
      globalThis.setTimeout = setTimeout;
      setPlatformForTesting(real);
    },
  };
}

/** Counts how often one method was called more than the other. */
export function counted(target: object, up: string, down: string) {
  const methods = target as Record<string, (...args: unknown[]) => unknown>;
  const real = { [up]: methods[up], [down]: methods[down] };
  let left = 0;
  for (const [name, change] of [[up, 1], [down, -1]] as const) {
    methods[name] = (...args) => {
      left += change;
      return real[name].apply(target, args);
    };
  }
  return { left: () => left, restore: () => Object.assign(target, real) };
}

/** The timers that are set and neither have fired nor were cleared. */
export function activeTimers(): Set<unknown> & Disposable {
  const active = new Set<unknown>();
  const { setTimeout, clearTimeout } = globalThis;
  globalThis.setTimeout = Object.assign(
    (callback: () => void, milliseconds: number) => {
      const timer = setTimeout(() => {
        active.delete(timer);
        callback();
      }, milliseconds);
      active.add(timer);
      return timer;
    },
    setTimeout,
  ) as typeof setTimeout;
  globalThis.clearTimeout = (timer) => {
    active.delete(timer);
    clearTimeout(timer);
  };
  return Object.assign(active, {
    [Symbol.dispose]() {
      Object.assign(globalThis, { setTimeout, clearTimeout });
    },
  });
}

/** What a system answers that tells nobody of anything. */
export const untold = {
  upgradeIsAtomic: true,
  lockKey: (_fd?: number) => "0:0",
  isFile: () => true,
  unlink() {},
  watchClose: () => null,
  wakeWatchers() {},
  holders: () => [],
};

/** An error as a system call leaves it. */
export function systemError(code: string, errno: number): Error {
  return Object.assign(new Error(`injected ${code}`), {
    code,
    errno,
    syscall: "flock",
  });
}

/** A child process that does what it is told, one command at a time. */
export class Worker implements AsyncDisposable {
  readonly process: ChildProcessWithoutNullStreams;
  /** Settles when the process and its output have ended. */
  readonly ended: Promise<{ code: number | null; stderr: string }>;
  #answers: AsyncIterator<string>;

  constructor(
    command: string[],
    options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
  ) {
    const [program, ...args] = command;
    this.process = spawn(program, args, options);
    this.#answers = createInterface(this.process.stdout)[
      Symbol.asyncIterator
    ]();
    let stderr = "";
    this.process.stderr.on("data", (data) => stderr += data);
    this.process.stdin.on("error", () => {});
    this.ended = new Promise((resolve) =>
      this.process.on(
        "close",
        (code) => resolve({ code, stderr: withoutNoise(stderr) }),
      )
    );
  }

  /** Starts `tests/fixtures/worker` on a runtime. */
  static on(runtime: TestRuntime): Worker {
    return new Worker(scriptOn(runtime, "worker"));
  }

  /** Starts the Python worker, with Debian's portalocker or a newer one. */
  static python(newer = false): Worker {
    return Worker.#python("worker.py", newer);
  }

  /** Likewise the one that locks in Redis. */
  static redisPython(newer = false): Worker {
    return Worker.#python("redis_worker.py", newer);
  }

  static #python(name: string, newer: boolean): Worker {
    const { python, root, newerPortalocker } = surroundings;
    const script = join(root, "tests", "interop", name);
    const env = newer
      ? { ...process.env, PYTHONPATH: newerPortalocker! }
      : process.env;
    return new Worker([python!, script], { env });
  }

  /** Sends a command and returns the answer; throws what it threw there. */
  async ask(name: string, ...args: unknown[]): Promise<unknown> {
    this.write(JSON.stringify([name, ...args]));
    const answer = JSON.parse(await this.line(`when asked to ${name}`));
    if ("error" in answer) {
      throw Object.assign(new Error(answer.error.message), answer.error);
    }
    return answer.value;
  }

  /** Writes a line to its standard input. */
  write(line: string): void {
    this.process.stdin.write(`${line}\n`);
  }

  /** Waits for the next line of its standard output. */
  async line(when = "before it said so"): Promise<string> {
    const line = await this.#answers.next();
    if (!line.done) return line.value;
    const { code, stderr } = await this.ended;
    const how = code ?? this.process.signalCode;
    throw new Error(`the worker ended with ${how} ${when}: ${stderr}`);
  }

  /** Kills the process, which gets no chance to do anything more. */
  async kill(): Promise<void> {
    const { pid, exitCode, signalCode } = this.process;
    // Deno's ChildProcess.kill() closes standard input first, upon which a
    // worker may end in good order.
    if (exitCode === null && signalCode === null) process.kill(pid!, "SIGKILL");
    await this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

/** Runs a script on a runtime to its end. */
export async function runScript(
  command: string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const [program, ...args] = command;
  const child = spawn(program, args, options);
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (data) => stdout += data);
  child.stderr.on("data", (data) => stderr += data);
  child.stdin.end();
  const code = await new Promise<number | null>((resolve) =>
    child.on("close", resolve)
  );
  return { code, stdout, stderr: withoutNoise(stderr) };
}

/** What Bun says about the file systems of Wine, whatever it runs. */
function withoutNoise(stderr: string): string {
  return stderr.replace(/^Internal error: directory mismatch .*\n/gm, "");
}

function importsRedisLock(): boolean {
  const { python } = surroundings;
  return python !== null && succeeds(python, "-c", "import portalocker.redis");
}

/** Whether a call makes something under a path, with these permissions. */
function tries(call: (path: string) => void, bits?: number): boolean {
  using dir = folder();
  const path = join(dir.path, "a");
  try {
    call(path);
    const { mode } = fs.lstatSync(path);
    return bits === undefined || (mode & 0o777) === bits;
  } catch {
    return false;
  }
}

function has(command: string): boolean {
  return succeeds(command, "--version");
}

function serves(program: string): boolean {
  return surroundings.host?.programs.includes(program) ?? has(program);
}

function succeeds(command: string, ...args: string[]): boolean {
  return spawnSync(command, args).status === 0;
}

/** What is below a file is not a directory to POSIX, and nowhere to others. */
function namesErrorsAsPosix(): boolean {
  using dir = folder();
  const path = join(dir.path, "a");
  fs.writeFileSync(path, "");
  try {
    fs.lstatSync(join(path, "b"));
  } catch (error) {
    return errorCode(error) === "ENOTDIR";
  }
  return false;
}

function mounts(): boolean {
  if (process.getuid?.() !== 0) return false;
  using dir = folder();
  const mounted = succeeds("mount", "-t", "tmpfs", "none", dir.path);
  if (mounted) spawnSync("umount", [dir.path]);
  return mounted;
}

function hasDescriptors(): boolean {
  try {
    platform().fromFd(0);
    return true;
  } catch {
    return false;
  }
}

/** What proc_sys(5) says, "0" where it does not exist. */
function setting(name: string): string {
  return spawnSync("cat", [`/proc/sys/${name}`], { encoding: "utf8" }).stdout ||
    "0";
}
