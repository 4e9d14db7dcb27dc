/** The first commands on each connection. */

import { LockException } from "../../core/errors.ts";
import { NO_RESP3, NODE_OF_CLUSTER } from "../protocol/errors.ts";
import type { OpenedConnection, RedisConnection } from "./types.ts";

/** What a server must be. */
export interface Expected {
  /** Whether it is part of a cluster. */
  readonly sharded: boolean;
  /** The version of RESP that the library speaks. */
  readonly protocol: 2 | 3;
}

/**
 * Sends `HELLO`, and selects the database of the locks.
 *
 * @throws {LockException} If the server cannot hold locks.
 * @throws The error of the server or of the client.
 */
export async function hello(
  send: RedisConnection["send"],
  { sharded, protocol }: Expected,
): Promise<OpenedConnection> {
  const reply = send(["HELLO"]);
  // Channels belong to the server and keys to a database. So all locks are in
  // one database.
  const selected = sharded ? undefined : send(["SELECT", "0"]);
  // A sentinel refuses SELECT; the error below is clearer.
  selected?.catch(() => {});
  const { id, mode, proto } = toRecord(await reply);
  if (proto !== protocol) {
    throw new LockException(NO_RESP3, { code: "EPROTONOSUPPORT" });
  }
  if (mode === "sentinel") {
    throw new LockException(
      "the server is a sentinel; pass a client from createSentinel, or one of " +
        "ioredis with the option sentinels",
      { code: "EINVAL" },
    );
  }
  if ((mode === "cluster") !== sharded) {
    throw new LockException(
      sharded
        ? "the server is not part of a cluster; pass a client of " +
          "createClient, or a Redis of ioredis"
        : NODE_OF_CLUSTER,
      { code: "EINVAL" },
    );
  }
  await selected;
  return { clientId: String(id) };
}

/** Converts a map, which is a flat array in RESP2 and in some libraries. */
export function toRecord(map: unknown): Record<string, unknown> {
  if (map instanceof Map) return Object.fromEntries(map);
  if (!Array.isArray(map)) return map as Record<string, unknown>;
  return Object.fromEntries(
    map.flatMap((name, i) => i % 2 === 0 ? [[name, map[i + 1]]] : []),
  );
}
