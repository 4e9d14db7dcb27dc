/** The probes, as the process sees them that diagnoses. */

import { spawn } from "node:child_process";
import type { ChildProcessWithoutNullStreams } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import type { CommandName, Commands, Reply, Request } from "./protocol.ts";
import type { ErrorReport } from "./types.ts";

/** How long a probe may take to start. */
const START_MS = 30_000;

/** How long a command may take that does not wait. */
const ANSWER_MS = 10_000;

/** How long the probes may take to clean up, on a loaded machine, too. */
const END_MS = 20_000;

/** How long a killed probe may take to end. A call may keep it longer. */
const KILLED_MS = 1000;

/** How often the clock of a probe is compared. The fastest reply counts. */
const PINGS = 12;

/** How much of the output of a failed probe an error repeats. */
const MAX_OUTPUT = 1000;

/** The system calls of a probe fail with an error. */
export class ProbeError extends Error {
  override name = "ProbeError";
  readonly report: ErrorReport;

  constructor(report: ErrorReport) {
    super(report.message);
    this.report = report;
  }
}

/** A probe does not answer, because a system call does not return. */
export class NoAnswer extends Error {
  override name = "NoAnswer";

  constructor() {
    super(
      `the file system did not answer for ${ANSWER_MS / 1000} seconds; check ` +
        "its server, or unmount it",
    );
  }
}

/** A probe cannot be started, or has ended. */
export class ProbeEnded extends Error {
  override name = "ProbeEnded";
}

/** A time by the clock of this process, and how wrong it may be. */
export interface Time {
  readonly time: number;
  readonly error: number;
}

interface Pending {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** A child process that runs {@linkcode runProbe}. */
export class Probe {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #pending = new Map<number, Pending>();
  readonly #ended: Promise<void>;
  #failure: unknown;
  #lastId = 0;
  #output = "";
  /** What to add to its clock to get the clock of this process. */
  #offset = 0;
  #clockError = Infinity;
  #isKilled = false;
  #isStuck = false;

  private constructor(child: ChildProcessWithoutNullStreams) {
    this.#child = child;
    const lines = createInterface({ input: child.stdout });
    lines.on("line", (line) => this.#receive(line));
    child.stderr.on("data", (data) => this.#keep(String(data)));
    child.stdin.on("error", () => {});
    this.#ended = new Promise((resolve) => {
      child.on("error", (error) => {
        this.fail(cannotStart(error));
        resolve();
      });
      child.on("close", (code, signal) => {
        this.fail(
          new ProbeEnded(
            `a process of the test ended with ${signal ?? code}` +
              (this.#output === "" ? "" : `: ${this.#output.trim()}`),
          ),
        );
        resolve();
      });
    });
  }

  /**
   * Starts a probe. It must be {@linkcode Probe.end}ed.
   *
   * @throws {ProbeEnded} If it cannot be started.
   */
  static spawn([program = "", ...args]: readonly string[]): Probe {
    try {
      return new Probe(
        spawn(program, args, { stdio: "pipe", windowsHide: true }),
      );
    } catch (error) {
      throw cannotStart(error);
    }
  }

  /** Waits until it answers, and compares its clock. */
  async start(): Promise<this> {
    await this.#withTimeout(
      this.#expect(0),
      START_MS,
      () =>
        new ProbeEnded(
          "the process of the test did not answer; its output: " +
            (this.#output.trim() || "none"),
        ),
    );
    await this.compareClocks();
    return this;
  }

  /** Compares the clocks once more. Returns how far they may differ. */
  async compareClocks(): Promise<number> {
    for (let i = 0; i < PINGS; i++) await this.#ping();
    return this.#clockError;
  }

  async #ping(): Promise<void> {
    const sent = performance.now();
    const at = await this.call("ping");
    const received = performance.now();
    const error = (received - sent) / 2;
    if (error >= this.#clockError) return;
    this.#clockError = error;
    this.#offset = (sent + received) / 2 - at;
  }

  /** Converts a time of its clock. */
  toOwnTime(at: number): Time {
    return { time: at + this.#offset, error: this.#clockError };
  }

  /**
   * Sends a command and returns its result.
   *
   * @throws {ProbeError} If the command fails in the probe.
   * @throws {NoAnswer} If the probe does not answer.
   * @throws {ProbeEnded} If it has ended.
   */
  call<Name extends CommandName>(
    name: Name,
    ...args: Parameters<Commands[Name]>
  ): Promise<ReturnType<Commands[Name]>> {
    return this.callFor(0, name, ...args);
  }

  /** {@linkcode Probe.call} for a command that takes this long by itself. */
  async callFor<Name extends CommandName>(
    duration: number,
    name: Name,
    ...args: Parameters<Commands[Name]>
  ): Promise<ReturnType<Commands[Name]>> {
    const id = ++this.#lastId;
    const result = this.#expect(id);
    const request: Request = [id, name, ...args];
    this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    const value = await this.#withTimeout(
      result,
      duration + ANSWER_MS,
      () => {
        this.#isStuck = true;
        return new NoAnswer();
      },
    );
    return value as ReturnType<Commands[Name]>;
  }

  #expect(id: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#failure) reject(this.#failure);
      else this.#pending.set(id, { resolve, reject });
    });
  }

  async #withTimeout<T>(
    result: Promise<T>,
    milliseconds: number,
    error: () => Error,
  ): Promise<T> {
    const ending = new AbortController();
    const { signal } = ending;
    const late = delay(milliseconds, undefined, { signal }).then(() => {
      throw error();
    });
    late.catch(() => {});
    try {
      return await Promise.race([result, late]);
    } finally {
      ending.abort();
    }
  }

  #receive(line: string): void {
    let reply: Reply;
    try {
      reply = JSON.parse(line);
    } catch {
      return this.#keep(`${line}\n`);
    }
    const pending = this.#pending.get(reply.id);
    this.#pending.delete(reply.id);
    if ("error" in reply) pending?.reject(new ProbeError(reply.error));
    else pending?.resolve(reply.value);
  }

  #keep(output: string): void {
    this.#output = (this.#output + output).slice(0, MAX_OUTPUT);
  }

  /** Rejects all commands, those that run and those to come. */
  fail(error: unknown): void {
    this.#failure ??= error;
    for (const { reject } of this.#pending.values()) reject(this.#failure);
    this.#pending.clear();
  }

  /** Kills it with `SIGKILL`. */
  kill(): void {
    const { pid, exitCode, signalCode } = this.#child;
    this.#isKilled = true;
    // `ChildProcess.kill()` may close standard input first, and the probe would
    // release its locks by itself.
    if (pid !== undefined && exitCode === null && signalCode === null) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has just ended.
      }
    }
  }

  /** Ends it, and waits until it has cleaned up and ended. */
  async end(): Promise<void> {
    this.fail(new Error("the process of the test was ended"));
    if (!this.#isKilled) this.#child.stdin.end();
    if (!this.#isStuck && await this.#endsWithin(END_MS)) return;
    this.kill();
    // A call that does not return keeps even a killed process.
    if (await this.#endsWithin(KILLED_MS)) return;
    this.#child.unref();
    for (const stream of this.#child.stdio) stream?.destroy();
  }

  #endsWithin(milliseconds: number): Promise<boolean> {
    return this.#withTimeout(
      this.#ended.then(() => true),
      milliseconds,
      () => new Error(),
    ).catch(() => false);
  }
}

/** The names of the errors with which Deno refuses what it may not do. */
const REFUSALS: readonly string[] = ["NotCapable", "PermissionDenied"];

function cannotStart(cause: unknown): ProbeEnded {
  const { name, message } = cause as Error;
  const reason = "Deno" in globalThis && REFUSALS.includes(name)
    ? "Deno may not start processes; pass --allow-run and --allow-env"
    : `its processes cannot be started: ${message}`;
  return new ProbeEnded(reason, { cause });
}
