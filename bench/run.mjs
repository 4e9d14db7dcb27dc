/** Starts a contender's process and reads the one line that it prints. */

import { execFile } from "node:child_process";
import process from "node:process";

/** No contender is left running when the benchmark ends. */
const running = new Set();

process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/**
 * @param contender What to run.
 * @param args The scenario's name and what it needs.
 * @param timeout After so many milliseconds the process is killed.
 * @returns What the process printed, parsed.
 */
export function run({ command: [file, ...prefix] }, args, timeout) {
  return new Promise((resolve, reject) => {
    const child = execFile(
      file,
      [...prefix, ...args.map(String)],
      { timeout, killSignal: "SIGKILL", maxBuffer: 1 << 26 },
      (error, stdout, stderr) => {
        running.delete(child);
        if (!error) return resolve(JSON.parse(stdout));
        reject(
          new Error(
            error.killed
              ? `did not end within ${timeout} ms`
              : reason(stderr) ?? error.message.trim(),
            { cause: error },
          ),
        );
      },
    );
    running.add(child);
  });
}

/** The line of a stack trace that says what happened. */
function reason(stderr) {
  const lines = stderr.split("\n").map((line) => line.trim()).filter(Boolean);
  return lines.find((line) =>
    /^(error: )?(\w*Error|\w*Exception)\b/i.test(line)
  ) ??
    lines.pop();
}
