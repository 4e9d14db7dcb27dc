/** Redis servers of the benchmark, which end with it. */

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";

/** Why contenders are skipped if it is missing. */
export const NO_SERVER = "redis-server is not installed";

const MAX_ATTEMPTS = 5;

/** Becomes the server, beside a guard that kills it at the end of the input. */
const START = "exec 3<&0; { read -r _; kill -9 $$; } <&3 >/dev/null 2>&1 & " +
  'exec "$@" </dev/null 3<&-';

/** Returns the version of the server, or `undefined` if it is missing. */
export function redisVersion(): string | undefined {
  const { stdout } = spawnSync("redis-server", ["--version"], {
    encoding: "utf8",
  });
  return /\bv=(\S+)/.exec(stdout ?? "")?.[1];
}

/**
 * Starts a server that does not write to disk, and ends it when `body` has
 * settled.
 *
 * @param body Gets the URL of the server.
 */
export async function withRedis<Result>(
  folder: string,
  body: (url: string) => Promise<Result>,
): Promise<Result> {
  if (redisVersion() === undefined) throw new Error(NO_SERVER);
  const { url, end } = await startRedis(folder);
  try {
    return await body(url);
  } finally {
    await end();
  }
}

/**
 * Asks a server for all its figures and counters, by name.
 *
 * @param url May have more after `#`.
 */
export async function serverInfo(
  url: string,
): Promise<Record<string, string | undefined>> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname).setEncoding("utf8");
  socket.write("INFO everything\r\nQUIT\r\n");
  let text = "";
  socket.on("data", (chunk) => text += chunk);
  await once(socket, "close");
  return Object.fromEntries(
    text.split("\r\n").map((line) => line.split(/:(.*)/, 2)),
  );
}

async function startRedis(
  folder: string,
): Promise<{ url: string; end(): Promise<unknown> }> {
  for (let attempt = 1;; attempt++) {
    // Below the ports that the system assigns to clients.
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    const child = spawn("sh", [
      "-c",
      START,
      "sh",
      "redis-server",
      ...["--port", `${port}`, "--bind", "127.0.0.1"],
      ...["--save", "", "--appendonly", "no", "--maxclients", "10000"],
    ], { cwd: folder, stdio: ["pipe", "pipe", "inherit"] });
    const ended = new Promise((resolve) => child.on("close", resolve));
    const end = () => {
      child.stdin.end();
      return ended;
    };
    if (await isReady(child.stdout)) {
      return { url: `redis://127.0.0.1:${port}`, end };
    }
    await end();
    if (attempt === MAX_ATTEMPTS) {
      throw new Error("Cannot start redis-server: no free port was found");
    }
  }
}

/** Resolves to `false` if the server ends, for example if the port is taken. */
async function isReady(stdout: Readable): Promise<boolean> {
  for await (const line of createInterface({ input: stdout })) {
    if (!line.includes("Ready to accept connections")) continue;
    stdout.resume();
    return true;
  }
  return false;
}
