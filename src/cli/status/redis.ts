/** The state of locks in Redis. */

import { RedisLock } from "../../redis/mod.ts";
import type { RedisProbe } from "../../redis/mod.ts";
import { toFailure } from "../run/library_errors.ts";

/** The state of a lock in Redis. */
export interface RedisStatus {
  readonly name: string;
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

/** Reads the state of locks. */
export async function readAll(
  names: readonly string[],
  url: string,
): Promise<RedisStatus[]> {
  const found: RedisStatus[] = [];
  try {
    for (const name of names) {
      const { holders, waiters, python } = await new RedisLock(name, { url })
        .probe();
      found.push({
        name,
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

/** Formats the state of a lock. */
export function format(
  { name, holders, waiters, python }: RedisStatus,
): string {
  const isLocked = holders.length > 0;
  const clients = python === 0
    ? ""
    : `  ${python} clients of Python's portalocker hold it or wait for it\n`;
  return `${name}: ${isLocked ? "locked" : "not locked"}\n` +
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
