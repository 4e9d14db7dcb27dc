/** Chooses the library for a URL: what is built in, or what is installed. */

import { errorCode, Unsupported } from "../../../ffi/types.ts";
import { LockException } from "../../core/errors.ts";
import { hasBunClient, serverOfBun } from "./bun.ts";
import { importIoredis, serverOfIoredis } from "./ioredis.ts";
import { importNodeRedis, INSTALL, serverOfNodeRedis } from "./node_redis.ts";
import type { RedisSource, Server } from "./types.ts";

/** Returns the server of a URL, given the options of the package. */
type ServerOfUrl = (
  url: string | undefined,
  options: Record<string, unknown>,
) => Server;

/** The package that was imported, or what is built into the runtime. */
let chosen: ServerOfUrl | undefined;

/** Returns the server of a URL, given the options of the package. */
export function fromUrl(
  poolKey: object,
  url: string | undefined,
  options: Record<string, unknown> = {},
): RedisSource {
  let server: Server | undefined;
  const create = (serverOfUrl: ServerOfUrl) =>
    server ??= serverOfUrl(url, options);
  return {
    sharded: false,
    poolKey,
    get server() {
      return server;
    },
    load: () => chosen ? undefined : choose(),
    locate: () => server ?? (chosen ? create(chosen) : choose().then(create)),
    refreshSlots: () => Promise.resolve(),
  };
}

/**
 * Chooses the first package that is installed. What is built into Bun comes
 * last, because it keeps a finished program alive while a lock is held.
 *
 * @throws {LockException} If neither is installed, and nothing is built in.
 * @throws {Unsupported} If the first one that is installed is too old, or
 * cannot be imported.
 */
async function choose(): Promise<ServerOfUrl> {
  let cause: unknown;
  try {
    const module = await importNodeRedis();
    return chosen = (url, options) => serverOfNodeRedis(module, url, options);
  } catch (error) {
    if (error instanceof Unsupported) throw error;
    ({ cause } = error as Error);
  }
  try {
    const module = await importIoredis();
    return chosen = (url, options) => serverOfIoredis(module, url, options);
  } catch (error) {
    if (error instanceof Unsupported) throw error;
  }
  if (hasBunClient()) return chosen = serverOfBun;
  throw new LockException(
    `neither redis nor ioredis is installed; install one (${INSTALL}), or ` +
      "pass a client",
    { code: errorCode(cause) ?? "ERR_MODULE_NOT_FOUND", cause },
  );
}
