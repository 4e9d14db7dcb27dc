/** What an entry does until it holds, or gives up. */

import { now } from "../../wait/deadline.ts";
import type { Deadline } from "../../wait/deadline.ts";
import type { Acquisition } from "./acquisition.ts";
import { replyCode, ReplyTimeout } from "../protocol/errors.ts";
import { allPeersShared } from "../python/peers.ts";
import { parseMember } from "../protocol/keys.ts";
import { PollSchedule } from "../python/poll_schedule.ts";
import type { Operation } from "../protocol/scripts.ts";

/** What the server said last of a lock that cannot be had. */
export interface Blockers {
  /** Participants that are no sessions. */
  readonly pythonClients: number;
  /** Entries that hold. */
  readonly holders: readonly string[];
}

/** How to wait. */
export interface AcquireWaitSettings {
  readonly deadline: Deadline;
  /** Whether to wait for others, not only for the server. */
  readonly waits: boolean;
  /** How long somebody may be silent, in milliseconds. */
  readonly unavailableTimeout: number;
  /** Called when the lock cannot be had at once. */
  readonly onWait: () => void;
}

/** The wait of one entry. */
export class AcquireWait {
  readonly #acquisition: Acquisition;
  readonly #settings: AcquireWaitSettings;
  readonly #schedule: PollSchedule;
  #blockers: Blockers = { pythonClients: 0, holders: [] };
  #wake: () => void = () => {};
  /** Settles once the step that is under way has had its effect. */
  #pendingStep: Promise<void> | undefined;
  #probing = false;
  #stopProbing: () => void = () => {};

  constructor(acquisition: Acquisition, settings: AcquireWaitSettings) {
    this.#acquisition = acquisition;
    this.#settings = settings;
    this.#schedule = new PollSchedule(settings.deadline.checkInterval);
  }

  /** What kept it out last. */
  get blockers(): Blockers {
    return this.#blockers;
  }

  /** Something has become of the entry. */
  wake(): void {
    if (!this.#acquisition.isPending) this.#stopProbing();
    this.#wake();
  }

  /** A foreigner asked, and will be gone in a moment. */
  pollSoon(): void {
    if (this.#acquisition.state === "waiting" && this.#schedule.onPing()) {
      this.#wake();
    }
  }

  /** Takes the first step, and others until it is known what becomes of it. */
  async run(): Promise<void> {
    const { deadline, waits, unavailableTimeout } = this.#settings;
    const acquisition = this.#acquisition;
    this.#step(waits ? "wait" : "attempt");
    const limit = waits
      ? deadline.remaining
      : Math.max(deadline.remaining, unavailableTimeout);
    const end = now() + limit;
    while (acquisition.isPending) {
      const remaining = end - now();
      if (remaining <= 0) break;
      const woken = await this.#pause(remaining);
      if (woken || acquisition.state !== "waiting") continue;
      this.#schedule.onPoll();
      this.#step("check");
    }
    acquisition.throwIfLost();
    if (acquisition.state === "entering" && !this.#probing) {
      throw new ReplyTimeout("the server has not answered");
    }
  }

  #pause(remaining: number): Promise<boolean> {
    const { connection, state } = this.#acquisition;
    const waiting = state === "waiting";
    return this.#settings.deadline.sleepUntilWoken(
      waiting ? Math.min(remaining, this.#schedule.remaining) : remaining,
      (wake) => {
        this.#wake = wake;
        return () => this.#wake = () => {};
      },
      waiting ? undefined : connection.alarm.set,
    );
  }

  #step(operation: Operation, allowed = ""): void {
    if (this.#pendingStep) return;
    this.#pendingStep = this.#acquisition.send(operation, allowed).then(
      (answer) => {
        this.#pendingStep = undefined;
        this.#onReply(operation, answer);
      },
      (error) => {
        this.#pendingStep = undefined;
        // What was a master is none any more, for nobody.
        if (replyCode(error) === "READONLY") {
          this.#acquisition.connection.fail(error);
        } else this.#acquisition.fail(error);
      },
    );
  }

  #onReply(operation: Operation, answer: unknown): void {
    const acquisition = this.#acquisition;
    if (typeof answer === "string") return acquisition.granted(answer);
    // Messages are read before the replies that came with them, so this may be
    // older than the grant. If not, the server has lost its data.
    if (acquisition.held) return void acquisition.verify();
    if (!acquisition.isPending) return;
    const [foreigners, ...holders] = answer as [number, ...string[]];
    this.#blockers = { pythonClients: foreigners, holders };
    const canJoin = acquisition.lockType === "s" && foreigners > 0 &&
      !this.#probing &&
      holders.every((holder) => holder.startsWith("s"));
    if (canJoin) {
      this.#joinPythonReaders(operation === "attempt" ? "attempt" : "check");
    } else if (operation === "attempt") acquisition.queued("refused");
    if (operation === "check") this.#probeHolders(holders);
    if (operation !== "wait") return;
    this.#settings.onWait();
    acquisition.queued("waiting");
  }

  /** Enters beside foreigners, if all of them share. */
  async #joinPythonReaders(operation: "attempt" | "check"): Promise<void> {
    const { connection, keys } = this.#acquisition.subscription;
    const { unavailableTimeout } = this.#settings;
    this.#probing = true;
    const done = new Promise<void>((resolve) => this.#stopProbing = resolve);
    const count = await allPeersShared(
      connection,
      keys,
      unavailableTimeout,
      done,
    )
      .catch(() => undefined);
    // Dropped beside a look, the verdict might be so each time.
    while (this.#pendingStep) await this.#pendingStep;
    if (this.#acquisition.isPending) {
      this.#step(operation, count === undefined ? "" : String(count));
    }
    // An attempt asks once.
    this.#probing = operation === "attempt";
  }

  #probeHolders(holders: readonly string[]): void {
    const { connection, keys } = this.#acquisition.subscription;
    const { unavailableTimeout } = this.#settings;
    for (const holder of holders) {
      if (parseMember(holder).connectionId === connection.id) continue;
      connection.liveness.check(holder, keys, unavailableTimeout)?.then(() => {
        if (this.#acquisition.state === "waiting") this.#step("check");
      });
    }
  }
}
