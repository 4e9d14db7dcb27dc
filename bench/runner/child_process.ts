/** The contenders' processes, and the lines they exchange with this process. */

import { spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";
import type { Command } from "../types.ts";

/** Every child is killed when the benchmark ends. */
const running = new Set<{ kill(signal: "SIGKILL"): boolean }>();

process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** A contender's process. Lines to it are plain, lines from it are JSON. */
export interface Child {
  send(line: string | number): void;
  /** Resolves to the next line. Rejects if the process has failed. */
  receive(): Promise<unknown>;
  /**
   * Ends the input, and resolves to the last line when the process has ended.
   * Rejects if it fails or does not end within its timeout.
   */
  end<Result>(): Promise<Result>;
  kill(): void;
}

/** Starts a process, waits until it ends, and resolves to its last line. */
export async function run<Result>(
  command: Command,
  args: readonly (string | number)[],
  timeout: number,
): Promise<Result> {
  const child = start(command, args, timeout);
  try {
    return await child.end();
  } finally {
    child.kill();
  }
}

/**
 * Starts a process.
 *
 * @param args The scenario's name and its arguments.
 * @param timeout The process is killed after this time, in milliseconds.
 */
export function start(
  [file, ...prefix]: Command,
  args: readonly (string | number)[],
  timeout: number,
): Child {
  const child = spawn(file, [...prefix, ...args.map(String)]);
  running.add(child);
  const lines = createInterface({ input: child.stdout })[
    Symbol.asyncIterator
  ]();
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text) => errors += text);
  // The exit status of the child reports what went wrong.
  child.stdin.on("error", () => {});

  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, timeout);
  const ended = new Promise<string | null>((resolve) => {
    child.on("error", (error) => resolve(error.message));
    child.on("close", (status, signal) => {
      if (late) return resolve(`did not end within ${timeout} ms`);
      resolve(status === 0 ? null : reason(errors) ?? `${signal ?? status}`);
    });
  }).finally(() => {
    clearTimeout(timer);
    running.delete(child);
  });

  return {
    send(line) {
      child.stdin.write(`${line}\n`);
    },
    async receive() {
      const { value, done } = await lines.next();
      if (done) throw new Error(await ended ?? "ended too early");
      return JSON.parse(value);
    },
    async end() {
      child.stdin.end();
      let last: string | undefined;
      for await (const line of lines) last = line;
      const failure = await ended;
      if (failure !== null) throw new Error(failure);
      if (last === undefined) throw new Error("printed nothing");
      return JSON.parse(last);
    },
    kill() {
      child.kill("SIGKILL");
    },
  };
}

/** Returns the line of a stack trace that has the message. */
function reason(errors: string): string | undefined {
  const lines = errors.split("\n").map((line) => line.trim()).filter(Boolean);
  return lines.find((line) =>
    /^(error: )?(\w*Error|\w*Exception)\b/i.test(line)
  ) ??
    lines.pop();
}
