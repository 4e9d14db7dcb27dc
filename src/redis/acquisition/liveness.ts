/** Holders whose connection is there and whose process may not be. */

import { now } from "../../wait/deadline.ts";
import { clientName, partsOf, sessionPrefix } from "../keys.ts";
import type { Names } from "../keys.ts";
import type { Session } from "../connection/connection.ts";

/** So often in a row a holder is silent before its connection is ended. */
const OFTEN = 2;

interface Suspicion {
  /** When it was asked last, or answered. */
  since: number;
  /** How often it was asked in vain, the last question included. */
  questions: number;
}

/** What one session thinks of those whom it waits for. */
export class Suspicions {
  readonly #session: Session;
  readonly #others = new Map<string, Suspicion>();

  constructor(session: Session) {
    this.#session = session;
  }

  /** A session said that it is there. */
  answered(session: string): void {
    if (!this.#others.has(session)) return;
    this.#others.set(session, { since: now(), questions: 0 });
  }

  /**
   * Meets a holder. It is asked whether it is there, and again, each time for
   * `unavailableTimeout` milliseconds. All that it said until this moment must
   * have been read.
   *
   * @returns A promise if its connection is being ended.
   */
  meet(
    holder: string,
    names: Names,
    unavailableTimeout: number,
  ): Promise<void> | undefined {
    const { session, client } = partsOf(holder);
    const known = this.#others.get(session);
    if (known && now() - known.since < unavailableTimeout) return undefined;
    if (known && known.questions >= OFTEN) {
      this.#others.delete(session);
      return this.#end(session, client);
    }
    this.#forgetOld(unavailableTimeout);
    const questions = (known?.questions ?? 0) + 1;
    this.#others.set(session, { since: now(), questions });
    this.#session.say(
      names,
      sessionPrefix(names) + session,
      `ask ${this.#session.channel(names)}`,
    );
    return undefined;
  }

  #forgetOld(unavailableTimeout: number): void {
    const oldest = now() - (OFTEN + 1) * unavailableTimeout;
    for (const [session, { since }] of this.#others) {
      if (since < oldest) this.#others.delete(session);
    }
  }

  /** Numbers of connections begin anew with a server, so the name is asked. */
  async #end(session: string, client: string): Promise<void> {
    const { connection } = this.#session;
    try {
      const list = await connection.sendCommand([
        "CLIENT",
        "LIST",
        "ID",
        client,
      ]);
      const named = String(list).includes(` name=${clientName(session)} `);
      if (named) await connection.sendCommand(["CLIENT", "KILL", "ID", client]);
    } catch {
      // Who may not do that waits until the server notices by itself.
    }
  }
}
