/** What the system below Wine does for programs under it. */

import { spawn, spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { unixPath } from "./windows.mjs";

/** Servers that tests may start, none of which exists for Windows. */
const PROGRAMS = ["redis-server", "valkey-server"];

/**
 * Listens for programs that want sh(1) to run something. Each connection is one
 * process: its end is that of standard input, and ends with the process. What
 * is said there are lines of JSON: what to run, answered by the number of the
 * process, then signals, which are answered once they are sent.
 */
export async function openHost() {
  // Anybody on this machine can connect.
  const secret = randomUUID();
  const server = createServer((socket) => {
    socket.setNoDelay(true);
    socket.on("error", () => {});
    serve(socket, secret).catch(() => socket.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    address: {
      port: server.address().port,
      secret,
      programs: PROGRAMS.filter((name) =>
        spawnSync(name, ["--version"]).status === 0
      ),
    },
    close: () => server.close(),
  };
}

async function serve(socket, secret) {
  let child;
  for await (const line of createInterface(socket)) {
    const said = JSON.parse(line);
    if (child) {
      child.kill(said);
      socket.write("sent\n");
      continue;
    }
    if (said.secret !== secret) return socket.destroy();
    child = spawn("sh", said.args, {
      cwd: unixPath(said.folder),
      stdio: ["pipe", "ignore", "ignore"],
    });
    child.stdin.on("error", () => {});
    child.on("exit", () => {
      child.stdin.end();
      socket.end();
    });
    socket.on("close", () => child.stdin.end());
    socket.write(`${child.pid}\n`);
  }
}
