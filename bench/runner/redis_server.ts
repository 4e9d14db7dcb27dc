/** Redis servers of the benchmark's own, which end with it. */

import { spawn, spawnSync } from "node:child_process";
import { createInterface } from "node:readline";

/** Why nobody can be measured where it is missing. */
export const NO_SERVER = "there is no redis-server";

const ATTEMPTS = 5;

/** Becomes the server, beside a guard that kills it at the end of the input. */
const START = "exec 3<&0; { read -r _; kill -9 $$; } <&3 >/dev/null 2>&1 & " +
  'exec "$@" </dev/null 3<&-';

/** The version of the server, or `undefined` where there is none. */
export function redisVersion() {
  const { stdout } = spawnSync("redis-server", ["--version"], {
    encoding: "utf8",
  });
  return /\bv=(\S+)/.exec(stdout ?? "")?.[1];
}

/**
 * Starts a server that keeps nothing on disk, and ends it when `body`, which
 * is given its URL, has settled.
 */
export async function withRedis(folder, body) {
  if (redisVersion() === undefined) throw new Error(NO_SERVER);
  const { url, end } = await started(folder);
  try {
    return await body(url);
  } finally {
    await end();
  }
}

async function started(folder) {
  for (let attempt = 1;; attempt++) {
    // Below those that the system gives to clients.
    const port = 10_000 + Math.floor(Math.random() * 22_000);
    const child = spawn("sh", [
      "-c",
      START,
      "sh",
      "redis-server",
      ...["--port", `${port}`, "--bind", "127.0.0.1"],
      ...["--save", "", "--appendonly", "no"],
    ], { cwd: folder, stdio: ["pipe", "pipe", "inherit"] });
    const ended = new Promise((resolve) => child.on("close", resolve));
    const end = () => {
      child.stdin.end();
      return ended;
    };
    if (await isReady(child)) return { url: `redis://127.0.0.1:${port}`, end };
    await end();
    if (attempt === ATTEMPTS) throw new Error("redis-server does not start");
  }
}

/** Whether it came so far; the port may be somebody else's. */
async function isReady({ stdout }) {
  for await (const line of createInterface({ input: stdout })) {
    if (!line.includes("Ready to accept connections")) continue;
    stdout.resume();
    return true;
  }
  return false;
}
