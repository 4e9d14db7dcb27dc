/** Starts programs on Linux for programs under Wine. */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { unixPath } from "./wine.ts";

/** Servers that the tests start and that do not exist for Windows. */
const PROGRAMS = ["redis-server", "valkey-server"];

/** A host that listens for programs under Wine. */
export interface Host {
  address: { port: number; secret: string; programs: string[] };
  close(): void;
}

/** The first line of a connection: arguments for sh(1). */
interface StartRequest {
  secret: string;
  args: string[];
  folder: string;
}

/**
 * Listens for programs that want sh(1) to run something. Each connection is one
 * process: closing the connection closes standard input, and the connection
 * ends with the process. Each line is JSON: first a {@linkcode StartRequest},
 * answered with the PID, then the names of signals, answered when sent.
 */
export async function openHost(): Promise<Host> {
  // Every process on this machine can connect.
  const secret = randomUUID();
  const server = createServer((socket) => {
    socket.setNoDelay(true);
    socket.on("error", () => {});
    serve(socket, secret).catch(() => socket.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") {
    throw new Error("the host does not listen on a port");
  }
  return {
    address: {
      port: address.port,
      secret,
      programs: PROGRAMS.filter((name) =>
        spawnSync(name, ["--version"]).status === 0
      ),
    },
    close: () => server.close(),
  };
}

async function serve(socket: Socket, secret: string): Promise<void> {
  let child: ChildProcess | undefined;
  for await (const line of createInterface(socket)) {
    if (child !== undefined) {
      const signal: NodeJS.Signals = JSON.parse(line);
      child.kill(signal);
      socket.write("sent\n");
      continue;
    }
    const request: StartRequest = JSON.parse(line);
    if (request.secret !== secret) {
      socket.destroy();
      return;
    }
    child = start(request, socket);
  }
}

function start({ args, folder }: StartRequest, socket: Socket): ChildProcess {
  const child = spawn("sh", args, {
    cwd: unixPath(folder),
    stdio: ["pipe", "ignore", "ignore"],
  });
  child.stdin.on("error", () => {});
  child.on("exit", () => {
    child.stdin.end();
    socket.end();
  });
  socket.on("close", () => child.stdin.end());
  socket.write(`${child.pid}\n`);
  return child;
}
