/** The state of locks in Redis. */

import { RedisLock, RedisSemaphore } from "../../redis/mod.ts";
import type { RedisProbe } from "../../redis/mod.ts";
import { toFailure } from "../run/library_errors.ts";
import { formatState } from "./format.ts";
import type { Reader } from "./reader.ts";

/** The state of a lock in Redis. */
export interface RedisStatus {
  readonly name: string;
  /** The largest number of holders, for a semaphore. */
  readonly maximum?: number;
  readonly holders: readonly RemoteParticipant[];
  readonly waiters: readonly RemoteParticipant[];
  /** How many clients of Python's portalocker hold the lock or wait for it. */
  readonly python: number;
}

/** A process on any machine. */
interface RemoteParticipant {
  readonly id: string;
  readonly exclusive: boolean;
  /** The address of its connection, as the server sees it. */
  readonly address: string | null;
  /** How long the connection has existed, in seconds. */
  readonly connected: number | null;
  readonly info: unknown;
}

/**
 * Reads the states of locks, or of semaphores.
 *
 * @param maximum The largest number of holders of a semaphore.
 */
export function redisReader(
  names: readonly string[],
  url: string,
  maximum: number | undefined,
): Reader<RedisStatus> {
  return {
    read: () => readAll(names, url, maximum),
    format,
  };
}

async function readAll(
  names: readonly string[],
  url: string,
  maximum: number | undefined,
): Promise<RedisStatus[]> {
  const found: RedisStatus[] = [];
  try {
    for (const name of names) {
      const lock = maximum === undefined
        ? new RedisLock(name, { url })
        : new RedisSemaphore(name, maximum, { url });
      const { holders, waiters, python } = await lock.probe();
      found.push({
        name,
        ...maximum === undefined ? {} : { maximum },
        holders: holders.map(participant),
        waiters: waiters.map(participant),
        python: python.length,
      });
    }
  } catch (error) {
    throw toFailure(error);
  }
  return found;
}

type Found = RedisProbe["holders" | "waiters"][number];

function participant(
  { holderId, exclusive, address, age, info }: Found,
): RemoteParticipant {
  return {
    id: holderId,
    exclusive,
    address,
    connected: age === null ? null : Math.round(age / 1000),
    info: info ?? null,
  };
}

function format(
  { name, maximum, holders, waiters, python }: RedisStatus,
): string {
  const clients = python === 0
    ? ""
    : `  ${python} clients of Python's portalocker hold it or wait for it\n`;
  return formatState(name, maximum, holders.length) +
    holders.map((each) => line("holds", each)).join("") +
    waiters.map((each) => line("waits", each)).join("") + clients;
}

function line(
  verb: string,
  { id, exclusive, address, connected, info }: RemoteParticipant,
): string {
  const type = exclusive ? "exclusive" : "shared";
  const details = [
    address ?? "",
    connected === null ? "" : `connected for ${connected} s`,
    info === null ? "" : JSON.stringify(info),
  ].filter((text) => text !== "").join(", ");
  return `  ${verb}  ${type.padEnd(9)}  ${id}  ${details}\n`;
}
