/** The process of a server, which is killed when its parent process ends. */

import { spawn } from "node:child_process";
import { connect } from "node:net";
import process from "node:process";
import { createInterface } from "node:readline";
import { type ServerHost, testEnv } from "../../support/env.ts";

export type Signal = "SIGSTOP" | "SIGCONT" | "SIGKILL" | "SIGTERM";

export interface ServerProcess {
  pid: number;
  /** Resolves when the process has ended. */
  ended: Promise<void>;
  /** Resolves when the signal is sent, not when it takes effect. */
  signal(name: Signal): Promise<void>;
}

/**
 * Starts a guard, and replaces the shell by the server. At the end of standard
 * input, the guard kills the server and removes its directory. The parent
 * process closes that input when it ends, even by SIGKILL.
 */
const START =
  'exec 3<&0; { read -r _; kill -9 $$ && rm -rf "$PWD"; } <&3 >/dev/null 2>&1 & ' +
  'exec "$@" </dev/null 3<&- >>log 2>&1';

/** Starts a program in a directory, where it writes its log. */
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
      // The guard exits, because the process to kill has ended.
      child.stdin.end();
      resolve();
    })
  );
  const pid = child.pid!;
  return {
    pid,
    ended,
    signal(name) {
      // Deno's ChildProcess.kill() closes standard input, which always kills.
      process.kill(pid, name);
      return Promise.resolve();
    },
  };
}

/** Starts the server on the host, where the connection is standard input. */
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
  const replies = createInterface(socket)[Symbol.asyncIterator]();
  const send = async (request: unknown) => {
    socket.write(`${JSON.stringify(request)}\n`);
    return (await replies.next()).value;
  };
  const pid = Number(await send({ secret, args, folder }));
  return { pid, ended, signal: async (name) => void await send(name) };
}
