/** Detects holders whose process is dead although their connection is open. */

import { now } from "../../wait/deadline.ts";
import type { LockConnection } from "../connection/connection.ts";
import {
  clientName,
  parseMember,
  replyChannelPrefix,
} from "../protocol/keys.ts";
import type { LockKeys } from "../protocol/keys.ts";

/** A connection is killed after this number of questions without a reply. */
const MAX_MISSED = 2;

interface ProbeState {
  /** The time of the last question or reply. */
  since: number;
  /** The number of questions since the last reply. */
  asked: number;
}

/** What one connection knows of the holders for which it waits. */
export class LivenessProbe {
  readonly #connection: LockConnection;
  /** By the identifiers of connections. */
  readonly #probes = new Map<string, ProbeState>();

  /** Creates a probe that asks through a connection. */
  constructor(connection: LockConnection) {
    this.#connection = connection;
  }

  /** Records that a connection replied. */
  onAlive(connectionId: string): void {
    if (!this.#probes.has(connectionId)) return;
    this.#probes.set(connectionId, { since: now(), asked: 0 });
  }

  /**
   * Asks a holder whether it is alive, or kills its connection after several
   * questions without a reply. To be called after a reply of the server, so
   * that all messages of the holder before it have been read.
   *
   * @param holder The record of the holder.
   * @param keys The names of the lock.
   * @param unavailableTimeout How long to wait for each reply, in milliseconds.
   * @returns A promise if the connection is being killed.
   */
  check(
    holder: string,
    keys: LockKeys,
    unavailableTimeout: number,
  ): Promise<void> | undefined {
    const { connectionId, clientId } = parseMember(holder);
    const probe = this.#probes.get(connectionId);
    if (probe && now() - probe.since < unavailableTimeout) return undefined;
    if (probe && probe.asked >= MAX_MISSED) {
      this.#probes.delete(connectionId);
      return this.#killConnection(connectionId, clientId);
    }
    this.#removeOld(unavailableTimeout);
    const asked = (probe?.asked ?? 0) + 1;
    this.#probes.set(connectionId, { since: now(), asked });
    this.#connection.publish(
      keys,
      replyChannelPrefix(keys) + connectionId,
      `ask ${this.#connection.replyChannel(keys)}`,
    );
    return undefined;
  }

  #removeOld(unavailableTimeout: number): void {
    const oldest = now() - (MAX_MISSED + 1) * unavailableTimeout;
    for (const [connectionId, { since }] of this.#probes) {
      if (since < oldest) this.#probes.delete(connectionId);
    }
  }

  /**
   * Kills a connection, after checking its name: a server that restarted gives
   * the same numbers to other connections.
   */
  async #killConnection(connectionId: string, clientId: string): Promise<void> {
    const { client } = this.#connection;
    try {
      const list = await client.send(["CLIENT", "LIST", "ID", clientId]);
      const named = String(list).includes(` name=${clientName(connectionId)} `);
      if (named) await client.send(["CLIENT", "KILL", "ID", clientId]);
    } catch {
      // Without the permission, the waiter waits until the server closes the
      // connection by itself.
    }
  }
}
