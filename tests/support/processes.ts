/** Child processes of tests. */

import { spawn } from "node:child_process";
import type {
  ChildProcessWithoutNullStreams,
  SpawnOptionsWithoutStdio,
} from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { hasCapability } from "./capabilities.ts";
import {
  currentRuntime,
  fixtureCommand,
  isDeno,
  testEnv,
  type TestRuntime,
} from "./env.ts";
import { type Deferred, deferred } from "./values.ts";

/** The folder and the environment variables of a child process. */
type ProcessOptions = Pick<SpawnOptionsWithoutStdio, "cwd" | "env">;

/**
 * Returns the command that runs a script of `tests/fixtures` on the current
 * runtime, without FFI if this process does not have it.
 */
export function currentFixtureCommand(script: string): string[] {
  const withoutFfi = isDeno && !hasCapability("file descriptors");
  const allowed = ["--allow-read", "--allow-write"];
  const command = withoutFfi
    ? [process.execPath, "run", ...allowed, "-q"]
    : currentRuntime.command;
  return fixtureCommand({ ...currentRuntime, command }, script);
}

/** Starts a command whose first word is the program. */
function start(
  [program, ...args]: string[],
  options: ProcessOptions,
): ChildProcessWithoutNullStreams {
  if (program === undefined) throw new Error("the command is empty");
  return spawn(program, args, options);
}

/** What `tests/fixtures/lock_process` reports, once for each command. */
type Report = "wait" | "sleep";

/** The reports that a command may make before its result. */
type Reports = Record<Report, Deferred<void>>;

/**
 * A child process that locks on command. Each command is a line of JSON, and so
 * is its result. Before the result the process may report that it waits.
 */
export class LockProcess implements AsyncDisposable {
  readonly process: ChildProcessWithoutNullStreams;
  /** Resolves when the process has ended and its output is closed. */
  readonly ended: Promise<{ code: number | null; stderr: string }>;
  #lines: AsyncIterator<string>;
  #reports: Reports | undefined;
  #lastResult: Promise<unknown> = Promise.resolve();

  constructor(command: string[], options: ProcessOptions = {}) {
    this.process = start(command, options);
    this.#lines = createInterface(this.process.stdout)[Symbol.asyncIterator]();
    let stderr = "";
    this.process.stderr.on("data", (data) => stderr += data);
    this.process.stdin.on("error", () => {});
    this.ended = new Promise((resolve) =>
      this.process.on(
        "close",
        (code) => resolve({ code, stderr: withoutWineNoise(stderr) }),
      )
    );
  }

  /** Starts `tests/fixtures/lock_process` on a runtime. */
  static start(runtime: TestRuntime): LockProcess {
    return new LockProcess(fixtureCommand(runtime, "lock_process"));
  }

  /** Starts the Python worker, with Debian's portalocker or a newer one. */
  static startPython(newer = false): LockProcess {
    return LockProcess.#startPython("lock_process.py", newer);
  }

  /** Starts the Python worker that locks in Redis. */
  static startRedisPython(newer = false): LockProcess {
    return LockProcess.#startPython("redis_lock_process.py", newer);
  }

  static #startPython(name: string, newer: boolean): LockProcess {
    const { python, root, newerPortalocker } = testEnv;
    if (python === null) throw new Error("Python is not installed");
    const path = newer && newerPortalocker !== null
      ? { PYTHONPATH: newerPortalocker }
      : {};
    const script = join(root, "tests", "interop", name);
    return new LockProcess([python, script], {
      env: { ...process.env, ...path },
    });
  }

  /**
   * Sends a command and returns the result.
   *
   * @throws {Error} If the command throws in the child process.
   */
  call(name: string, ...args: unknown[]): Promise<unknown> {
    const reports = { wait: deferred(), sleep: deferred() };
    for (const { promise } of Object.values(reports)) promise.catch(() => {});
    this.#reports = reports;
    this.writeLine(JSON.stringify([name, ...args]));
    const result = this.#lastResult.then(() => this.#result(name, reports));
    this.#lastResult = result.catch(() => {});
    return result;
  }

  /** Reads lines up to the result of a command. */
  async #result(name: string, reports: Reports): Promise<unknown> {
    try {
      for (;;) {
        const line = JSON.parse(await this.readLine(`when it ran ${name}`));
        if ("report" in line) {
          reports[line.report as Report].resolve();
        } else if ("error" in line) {
          throw Object.assign(new Error(line.error.message), line.error);
        } else {
          return line.value;
        }
      }
    } finally {
      const error = new Error(`${name} has ended without a report`);
      for (const { reject } of Object.values(reports)) reject(error);
    }
  }

  /**
   * Resolves when the last command has published `portalock:wait`, which says
   * that its first attempt to lock has failed.
   */
  async untilWaiting(): Promise<void> {
    await this.#reports?.wait.promise;
  }

  /**
   * Resolves when the last command sleeps until it is woken. The command
   * `disablePolling` must have been called before.
   */
  async untilAsleep(): Promise<void> {
    await this.#reports?.sleep.promise;
  }

  /** Writes a line to standard input. */
  writeLine(line: string): void {
    this.process.stdin.write(`${line}\n`);
  }

  /**
   * Reads the next line of standard output.
   *
   * @throws {Error} If the process ends first. The message contains `when`.
   */
  async readLine(when = "before it wrote a line"): Promise<string> {
    const line = await this.#lines.next();
    if (!line.done) return line.value;
    const { code, stderr } = await this.ended;
    const how = code ?? this.process.signalCode;
    throw new Error(`the process ended with ${how} ${when}: ${stderr}`);
  }

  /** Kills the process with `SIGKILL` and waits for its end. */
  async kill(): Promise<void> {
    const { pid, exitCode, signalCode } = this.process;
    // Deno's ChildProcess.kill() closes standard input first, which can make
    // the child process exit by itself.
    if (exitCode === null && signalCode === null) process.kill(pid!, "SIGKILL");
    await this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

/** Runs a command and returns its exit code and its output. */
export async function runScript(
  command: string[],
  options: ProcessOptions = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = start(command, options);
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (data) => stdout += data);
  child.stderr.on("data", (data) => stderr += data);
  child.stdin.end();
  const code = await new Promise<number | null>((resolve) =>
    child.on("close", resolve)
  );
  return { code, stdout, stderr: withoutWineNoise(stderr) };
}

/** Removes what Bun always writes about the file systems of Wine. */
function withoutWineNoise(stderr: string): string {
  return stderr.replace(/^Internal error: directory mismatch .*\n/gm, "");
}
