/** The process of a server, which ends with whoever started it. */

import { spawn } from "node:child_process";
import { connect } from "node:net";
import process from "node:process";
import { createInterface } from "node:readline";
import { type ServerHost, testEnv } from "../../support/env.ts";

export type Signal = "SIGSTOP" | "SIGCONT" | "SIGKILL" | "SIGTERM";

export interface ServerProcess {
  pid: number;
  /** Settles when the process has ended. */
  ended: Promise<void>;
  /** Returns when the signal is sent, not when it has had its effect. */
  signal(name: Signal): Promise<void>;
}

/**
 * Becomes the server, beside a guard that kills it at the end of standard input
 * and removes its folder: so both go with whoever started it, even by SIGKILL.
 */
const START =
  'exec 3<&0; { read -r _; kill -9 $$ && rm -rf "$PWD"; } <&3 >/dev/null 2>&1 & ' +
  'exec "$@" </dev/null 3<&- >>log 2>&1';

/** Starts a program in a folder, where it writes its log. */
export async function startServer(
  command: string[],
  folder: string,
): Promise<ServerProcess> {
  const args = ["-c", START, "sh", ...command];
  const { host } = testEnv;
  return host
    ? await startOnHost(host, args, folder)
    : startLocally(args, folder);
}

function startLocally(args: string[], folder: string): ServerProcess {
  const child = spawn("sh", args, {
    cwd: folder,
    stdio: ["pipe", "ignore", "ignore"],
  });
  child.stdin.on("error", () => {});
  const ended = new Promise<void>((resolve) =>
    child.on("exit", () => {
      // The guard need not wait any more, and finds nothing to kill.
      child.stdin.end();
      resolve();
    })
  );
  const pid = child.pid!;
  return {
    pid,
    ended,
    signal(name) {
      // Deno's ChildProcess.kill() closes standard input, which kills anyway.
      process.kill(pid, name);
      return Promise.resolve();
    },
  };
}

/** There the end of the connection is the end of standard input. */
async function startOnHost(
  { port, secret }: ServerHost,
  args: string[],
  folder: string,
): Promise<ServerProcess> {
  const socket = connect(port, "127.0.0.1");
  socket.setNoDelay(true);
  const ended = new Promise<void>((resolve) =>
    socket.on("error", () => {}).on("close", () => resolve())
  );
  const answers = createInterface(socket)[Symbol.asyncIterator]();
  const ask = async (question: unknown) => {
    socket.write(`${JSON.stringify(question)}\n`);
    return (await answers.next()).value;
  };
  const pid = Number(await ask({ secret, args, folder }));
  return { pid, ended, signal: async (name) => void await ask(name) };
}
