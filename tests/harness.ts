/** What every test file uses: tests with needs, folders, child processes. */

import { spawn, spawnSync } from "node:child_process";
import type { ChildProcessWithoutNullStreams } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { test as nodeTest } from "node:test";
import { fileURLToPath } from "node:url";
import { native, useNative } from "../ffi/mod.ts";
import type { Native, NativeFile } from "../ffi/types.ts";

/** A runtime that tests can start child processes on. */
export interface TestRuntime {
  name: string;
  command: string[];
  /** Holds `mod` and `tests/`, with this extension. */
  directory: string;
  extension: ".ts" | ".js";
}

/** What `scripts/test.mjs` tells its test processes. */
interface Surroundings {
  /** The checkout. */
  root: string;
  runtimes: TestRuntime[];
  /** A Python that has portalocker. */
  python: string | null;
  /** A folder with a portalocker that is newer than Debian's. */
  newerPortalocker: string | null;
  /** The oldest versions that are supported. */
  oldest: TestRuntime[];
}

const here = dirname(fileURLToPath(import.meta.url));

/** The surroundings, or without the script: this runtime alone. */
export const surroundings: Surroundings = process.env.PORTALOCK_TEST
  ? JSON.parse(process.env.PORTALOCK_TEST)
  : {
    root: dirname(here),
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
  directory: dirname(here),
  extension: import.meta.url.endsWith(".ts") ? ".ts" : ".js",
};

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
  "Python's portalocker": () => surroundings.python !== null,
  "Python's portalocker 4": () =>
    surroundings.python !== null && surroundings.newerPortalocker !== null,
  "the oldest Deno and Bun": () => surroundings.oldest.length === 2,
  "flock(1)": () => has("flock"),
  "strace(1)": () => succeeds("strace", "-o", "/dev/null", "true"),
  "bindfs(1) and FUSE": () =>
    has("bindfs") && succeeds("test", "-c", "/dev/fuse"),
  "user namespaces": () =>
    succeeds("unshare", "--user", "--map-root-user", "true"),
  "root": () => process.getuid?.() === 0,
  "protected_regular": () => !/^0/.test(setting("fs/protected_regular")),
  "Deno, Bun and Node": () =>
    ["deno", "bun", "node", "node26"].every((name) =>
      runtimes.some((runtime) => runtime.name === name)
    ),
} satisfies Record<string, () => boolean>;

export type Capability = keyof typeof CAPABILITIES;

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
      fs.rmSync(path, { recursive: true, force: true });
    },
  };
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
  return descriptorTargets(pid).filter((target) => target.startsWith(below))
    .length;
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

/** Runs a body with a {@linkcode Native} that is partly another. */
export async function withNative<T>(
  change: (real: Native) => Partial<Native>,
  body: () => T | Promise<T>,
): Promise<T> {
  const real = native();
  useNative({ ...real, ...change(real) });
  try {
    return await body();
  } finally {
    useNative(real);
  }
}

/** {@linkcode withNative} that changes every file which is opened. */
export function withFiles<T>(
  change: (real: NativeFile) => Partial<NativeFile>,
  body: () => T | Promise<T>,
): Promise<T> {
  return withNative((real) => changedFiles(real, change), body);
}

function changedFiles(
  real: Native,
  change: (real: NativeFile) => Partial<NativeFile>,
): Pick<Native, "open" | "openSync"> {
  const changed = (file: NativeFile): NativeFile => {
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
  const real = native();
  const { setTimeout } = globalThis;
  const change = (file: NativeFile): Partial<NativeFile> => ({
    watch(closed) {
      const watch = file.watch(closed);
      return watch && {
        ...watch,
        block: (milliseconds) => watch.block(cut(milliseconds, Infinity)),
      };
    },
  });
  useNative({ ...real, ...changedFiles(real, change) });
  globalThis.setTimeout = Object.assign(
    (callback: () => void, milliseconds: number) =>
      setTimeout(callback, cut(milliseconds, 2 ** 31 - 1)),
    setTimeout,
  ) as typeof setTimeout;
  return {
    lengths,
    [Symbol.dispose]() {
      globalThis.setTimeout = setTimeout;
      useNative(real);
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
  identity: (_fd?: number) => "0:0",
  watch: () => null,
  announce() {},
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
      this.process.on("close", (code) => resolve({ code, stderr }))
    );
  }

  /** Starts `tests/fixtures/worker` on a runtime. */
  static on(runtime: TestRuntime): Worker {
    return new Worker(scriptOn(runtime, "worker"));
  }

  /** Starts the Python worker, with Debian's portalocker or a newer one. */
  static python(newer = false): Worker {
    const { python, root, newerPortalocker } = surroundings;
    const script = join(root, "tests", "interop", "worker.py");
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
  return { code, stdout, stderr };
}

function has(command: string): boolean {
  return succeeds(command, "--version");
}

function succeeds(command: string, ...args: string[]): boolean {
  return spawnSync(command, args).status === 0;
}

function hasDescriptors(): boolean {
  try {
    native().descriptor(0);
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
