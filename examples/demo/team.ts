/** The worker processes, and running them together. */

import { spawn } from "node:child_process";
import type { ChildProcessWithoutNullStreams } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { Runtime } from "../../scripts/setup/mod.ts";

const script = fileURLToPath(new URL("worker.mjs", import.meta.url));
const pythonScript = fileURLToPath(new URL("worker.py", import.meta.url));

/** How to start a worker. */
export interface Worker {
  readonly command: readonly [program: string, ...args: string[]];
  /** The URL of this package; Python does not need it. */
  readonly module?: string;
}

/** What all workers do. */
export interface Task {
  /** The path of the file with the number. */
  readonly counter: string;
  readonly locked: boolean;
  readonly increments: number;
  /** The longest pause between two attempts to lock, in milliseconds. */
  readonly checkInterval: number;
}

/** What is known of a worker. */
export interface Member {
  name: string;
  done: number;
  seconds: number;
  /** Milliseconds. */
  longestWait: number;
}

/** What a worker sends: its name when it is ready, then its progress. */
type Message = { readonly ready: string } | {
  readonly ready?: never;
  readonly done: number;
  readonly seconds: number;
  readonly longestWait: number;
};

/** Returns how to start a worker on one of the installed runtimes. */
export function scriptWorker(
  { command, directory, extension }: Runtime,
): Worker {
  const module = pathToFileURL(join(directory, `mod${extension}`)).href;
  return { command: [...command, script], module };
}

/** Returns how to start a worker on a Python that has portalocker. */
export function pythonWorker(python: string): Worker {
  return { command: [python, pythonScript] };
}

/** Returns the increments per second, 0 before the first report. */
export function rate(
  { done, seconds }: Pick<Member, "done" | "seconds">,
): number {
  return seconds > 0 ? done / seconds : 0;
}

/** Worker processes that start counting at the same moment. */
export class Team {
  readonly members: Member[] = [];
  readonly #processes: {
    readonly process: ChildProcessWithoutNullStreams;
    readonly ended: Promise<void>;
  }[] = [];
  #onProgress: (member: Member) => void = () => {};

  /** Starts the processes, and waits until all are ready. */
  async start(workers: readonly Worker[], task: Task): Promise<void> {
    const ready = workers.map((worker) => this.#startOne(worker, task));
    await Promise.race([Promise.all(ready), this.#finish()]);
  }

  /**
   * Makes the processes count, and resolves when all have finished.
   *
   * @param onProgress Gets the worker that has reported.
   */
  async run(onProgress: (member: Member) => void): Promise<void> {
    this.#onProgress = onProgress;
    for (const { process } of this.#processes) process.stdin.end("go\n");
    await this.#finish();
  }

  /** Kills the processes that have not ended. */
  kill(): void {
    for (const { process } of this.#processes) process.kill("SIGKILL");
  }

  #startOne({ command, module }: Worker, task: Task): Promise<void> {
    const [file, ...args] = command;
    // Ctrl-C does not reach another process group. Otherwise the worker would
    // end too, and its end would be reported as a failure.
    const detached = globalThis.process.platform !== "win32";
    const argument = JSON.stringify({ ...task, module });
    const process = spawn(file, [...args, argument], { detached });
    process.stdin.on("error", () => {});
    const member = { name: file, done: 0, seconds: 0, longestWait: 0 };
    this.members.push(member);
    this.#processes.push({
      process,
      ended: waitForEnd(process, member, task.increments),
    });
    return this.#listen(process, member);
  }

  /** Updates a member from the messages. Resolves when the worker is ready. */
  #listen(
    process: ChildProcessWithoutNullStreams,
    member: Member,
  ): Promise<void> {
    return new Promise((resolve) => {
      createInterface(process.stdout).on("line", (line) => {
        const message: Message = JSON.parse(line);
        if (message.ready !== undefined) {
          member.name = message.ready;
          resolve();
        } else {
          Object.assign(member, message);
          this.#onProgress(member);
        }
      });
    });
  }

  /** Resolves when all have finished, rejects as soon as one has failed. */
  async #finish(): Promise<void> {
    await Promise.all(this.#processes.map(({ ended }) => ended));
  }
}

/** Rejects if a worker ends before it has made all increments. */
function waitForEnd(
  process: ChildProcessWithoutNullStreams,
  member: Member,
  increments: number,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let errors = "";
    process.stderr.setEncoding("utf8").on("data", (text) => errors += text);
    const fail = (reason: string) =>
      reject(new Error(`${member.name} ${reason}\n${errors}`.trim()));
    process.on("error", (error) => fail(`did not start: ${error.message}`));
    process.on("close", (status, signal) => {
      if (signal) fail(`was killed by ${signal}`);
      else if (status !== 0) fail(`failed with exit status ${status}`);
      else if (member.done !== increments) fail("stopped too early");
      else resolve();
    });
  });
}
