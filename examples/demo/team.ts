/** The worker processes: which there are, and running them together. */

import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath, pathToFileURL } from "node:url";

const worker = fileURLToPath(new URL("worker.mjs", import.meta.url));
const pythonScript = fileURLToPath(new URL("worker.py", import.meta.url));

/** How to start a worker on one of the runtimes of this repository. */
export function scriptWorker({ command, directory, extension }) {
  const module = pathToFileURL(join(directory, `mod${extension}`)).href;
  return { command: [...command, worker], module };
}

/** How to start one on a Python that has portalocker. */
export function pythonWorker(python) {
  return { command: [python, pythonScript] };
}

/**
 * Worker processes that start counting at the same moment. `members` is what
 * is known of them; `run` resolves when all have finished.
 */
export class Team {
  members = [];
  #processes = [];

  /** Starts the processes, and waits until all are ready. */
  async start(workers, task) {
    const ready = workers.map((worker) => this.#startOne(worker, task));
    await Promise.race([Promise.all(ready), this.#finish()]);
  }

  /** Lets them all count. `onProgress` is told of whoever has reported. */
  async run(onProgress) {
    for (const member of this.members) member.onProgress = onProgress;
    for (const { process } of this.#processes) process.stdin.end("go\n");
    await this.#finish();
  }

  /** Ends whoever still runs. */
  kill() {
    for (const { process } of this.#processes) process.kill("SIGKILL");
  }

  #startOne({ command: [file, ...args], module }, task) {
    // In a process group of its own, Ctrl-C does not reach the worker, which
    // is not taken for one that has died by itself then.
    const detached = globalThis.process.platform !== "win32";
    const argument = JSON.stringify({ ...task, module });
    const process = spawn(file, [...args, argument], { detached });
    process.stdin.on("error", () => {});
    const member = { name: file, done: 0, seconds: 0, longestWait: 0 };
    this.members.push(member);
    this.#processes.push({ process, ended: ended(process, member, task) });
    return listen(process, member);
  }

  /** Resolves when all are done, rejects as soon as one has failed. */
  #finish() {
    return Promise.all(this.#processes.map(({ ended }) => ended));
  }
}

/** Keeps up to date what is known of a worker. Resolves when it is ready. */
function listen(process, member) {
  return new Promise((resolve) => {
    createInterface(process.stdout).on("line", (line) => {
      const message = JSON.parse(line);
      if (message.ready) {
        member.name = message.ready;
        resolve();
      } else {
        Object.assign(member, message);
        member.onProgress?.(member);
      }
    });
  });
}

/** Resolves when a worker has done all, rejects when it ended without. */
function ended(process, member, { increments }) {
  return new Promise((resolve, reject) => {
    let complaints = "";
    process.stderr.setEncoding("utf8").on("data", (text) => complaints += text);
    const fail = (reason) =>
      reject(new Error(`${member.name} ${reason}\n${complaints}`.trim()));
    process.on("error", (error) => fail(`did not start: ${error.message}`));
    process.on("close", (status, signal) => {
      if (signal) fail(`was killed by ${signal}`);
      else if (status !== 0) fail(`failed with exit status ${status}`);
      else if (member.done !== increments) fail("stopped too early");
      else resolve();
    });
  });
}
