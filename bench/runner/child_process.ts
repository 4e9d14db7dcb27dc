/** Contenders' processes, and the lines that they exchange with this one. */

import { spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";

/** No contender is left running when the benchmark ends. */
const running = new Set();

process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** Starts a process, lets it end by itself and returns what it printed last. */
export async function run(command, args, timeout) {
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
 * @param command What to run.
 * @param args The scenario's name and what it needs.
 * @param timeout After so many milliseconds the process is killed.
 * @returns Its side of a conversation: `say` sends a line, `hear` resolves to
 * the next one, parsed, `end` ends the conversation and resolves to the last
 * one. Both reject if the process fails or is too slow.
 */
export function start([file, ...prefix], args, timeout) {
  const child = spawn(file, [...prefix, ...args.map(String)]);
  running.add(child);
  const lines = createInterface({ input: child.stdout })[
    Symbol.asyncIterator
  ]();
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text) => errors += text);
  // Whoever died says why through its status.
  child.stdin.on("error", () => {});

  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, timeout);
  const ended = new Promise((resolve) => {
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
    say: (line) => child.stdin.write(`${line}\n`),
    async hear() {
      const { value, done } = await lines.next();
      if (done) throw new Error(await ended ?? "ended too soon");
      return JSON.parse(value);
    },
    async end() {
      child.stdin.end();
      let last;
      for await (const line of lines) last = line;
      const failure = await ended;
      if (failure !== null) throw new Error(failure);
      if (last === undefined) throw new Error("printed nothing");
      return JSON.parse(last);
    },
    kill: () => child.kill("SIGKILL"),
  };
}

/** The line of a stack trace that says what happened. */
function reason(errors) {
  const lines = errors.split("\n").map((line) => line.trim()).filter(Boolean);
  return lines.find((line) =>
    /^(error: )?(\w*Error|\w*Exception)\b/i.test(line)
  ) ??
    lines.pop();
}
