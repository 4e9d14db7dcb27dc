/** Chooses the library for a URL: what is built in, or what is installed. */

import { errorCode, Unsupported } from "../../../ffi/types.ts";
import { LockException } from "../../core/errors.ts";
import { bunServer } from "./bun.ts";
import { importIoredis, serverOfIoredis } from "./ioredis.ts";
import { importNodeRedis, INSTALL, serverOfNodeRedis } from "./node_redis.ts";
import type { RedisSource, Server } from "./types.ts";

/** Returns the server of a URL, given the options of the package. */
type ServerOfUrl = (
  url: string | undefined,
  options: Record<string, unknown>,
) => Server;

/** The package that was imported. */
let imported: ServerOfUrl | undefined;

/**
 * Returns the server of a URL. Without options for the package, the client that
 * is built into the runtime is used, if there is one.
 */
export function fromUrl(
  poolKey: object,
  url: string | undefined,
  options?: Record<string, unknown>,
): RedisSource {
  let server = options === undefined ? bunServer(url) : undefined;
  const create = (serverOfUrl: ServerOfUrl) =>
    server ??= serverOfUrl(url, options ?? {});
  return {
    sharded: false,
    poolKey,
    load: () => server || imported ? undefined : importPackage(),
    locate: () =>
      server ??
        (imported ? create(imported) : importPackage().then(create)),
    refreshSlots: () => Promise.resolve(),
  };
}

/**
 * Imports the first package that is installed.
 *
 * @throws {LockException} If neither is installed.
 * @throws {Unsupported} If the first one that is installed is too old.
 */
async function importPackage(): Promise<ServerOfUrl> {
  let cause: unknown;
  try {
    const module = await importNodeRedis();
    return imported = (url, options) => serverOfNodeRedis(module, url, options);
  } catch (error) {
    if (error instanceof Unsupported) throw error;
    ({ cause } = error as Error);
  }
  try {
    const module = await importIoredis();
    return imported = (url, options) => serverOfIoredis(module, url, options);
  } catch (error) {
    if (error instanceof Unsupported) throw error;
  }
  throw new LockException(
    `neither redis nor ioredis is installed; install one (${INSTALL}), or ` +
      "pass a client",
    { code: errorCode(cause) ?? "ERR_MODULE_NOT_FOUND", cause },
  );
}
