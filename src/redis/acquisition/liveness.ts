/** Holders whose connection is there and whose process may not be. */

import { now } from "../../wait/deadline.ts";
import {
  clientName,
  parseMember,
  replyChannelPrefix,
} from "../protocol/keys.ts";
import type { LockKeys } from "../protocol/keys.ts";
import type { LockConnection } from "../connection/connection.ts";

/** So often in a row a holder is silent before its connection is ended. */
const MAX_MISSED = 2;

interface ProbeState {
  /** When it was asked last, or answered. */
  since: number;
  /** How often it was asked in vain, the last question included. */
  asked: number;
}

/** What one session thinks of those whom it waits for. */
export class LivenessProbe {
  readonly #connection: LockConnection;
  readonly #probes = new Map<string, ProbeState>();

  constructor(connectionId: LockConnection) {
    this.#connection = connectionId;
  }

  /** A session said that it is there. */
  onAlive(connectionId: string): void {
    if (!this.#probes.has(connectionId)) return;
    this.#probes.set(connectionId, { since: now(), asked: 0 });
  }

  /**
   * Meets a holder. It is asked whether it is there, and again, each time for
   * `unavailableTimeout` milliseconds. All that it said until this moment must
   * have been read.
   *
   * @returns A promise if its connection is being ended.
   */
  check(
    holder: string,
    keys: LockKeys,
    unavailableTimeout: number,
  ): Promise<void> | undefined {
    const { connectionId, client } = parseMember(holder);
    const known = this.#probes.get(connectionId);
    if (known && now() - known.since < unavailableTimeout) return undefined;
    if (known && known.asked >= MAX_MISSED) {
      this.#probes.delete(connectionId);
      return this.#killConnection(connectionId, client);
    }
    this.#forgetOld(unavailableTimeout);
    const questions = (known?.asked ?? 0) + 1;
    this.#probes.set(connectionId, { since: now(), asked: questions });
    this.#connection.publish(
      keys,
      replyChannelPrefix(keys) + connectionId,
      `ask ${this.#connection.replyChannel(keys)}`,
    );
    return undefined;
  }

  #forgetOld(unavailableTimeout: number): void {
    const oldest = now() - (MAX_MISSED + 1) * unavailableTimeout;
    for (const [connectionId, { since }] of this.#probes) {
      if (since < oldest) this.#probes.delete(connectionId);
    }
  }

  /** Numbers of connections begin anew with a server, so the name is asked. */
  async #killConnection(connectionId: string, client: string): Promise<void> {
    const { client: redis } = this.#connection;
    try {
      const list = await redis.sendCommand([
        "CLIENT",
        "LIST",
        "ID",
        client,
      ]);
      const named = String(list).includes(` name=${clientName(connectionId)} `);
      if (named) await redis.sendCommand(["CLIENT", "KILL", "ID", client]);
    } catch {
      // Who may not do that waits until the server notices by itself.
    }
  }
}
