/** What the soak run uses of `RedisServer`, the Redis server of the tests. */

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { compiled } from "../setup/mod.ts";

/** A Redis server that runs until it is disposed. */
export interface SoakServer extends AsyncDisposable {
  readonly port: number;
  command(...args: string[]): Promise<unknown>;
  restart(): Promise<void>;
}

/** Starts a server. Loads the compiled class, because it needs the library. */
export async function startServer(): Promise<SoakServer> {
  const file = join(compiled, "tests", "redis", "support", "server.js");
  const module: { RedisServer: { start(): Promise<SoakServer> } } =
    await import(pathToFileURL(file).href);
  return module.RedisServer.start();
}
