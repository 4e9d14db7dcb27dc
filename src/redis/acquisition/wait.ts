/** What an entry does until it holds, or gives up. */

import { now } from "../../wait/deadline.ts";
import type { Patience } from "../../wait/deadline.ts";
import type { Entry } from "./acquisition.ts";
import { replyCode, Unanswered } from "../errors.ts";
import { othersShare } from "../python/peers.ts";
import { partsOf } from "../keys.ts";
import { Pacing } from "../python/poll_schedule.ts";
import type { Operation } from "./scripts.ts";

/** What the server said last of a lock that cannot be had. */
export interface Others {
  /** Participants that are no sessions. */
  readonly foreigners: number;
  /** Entries that hold. */
  readonly holders: readonly string[];
}

/** How to wait. */
export interface Pace {
  readonly patience: Patience;
  /** Whether to wait for others, not only for the server. */
  readonly waits: boolean;
  /** How long somebody may be silent, in milliseconds. */
  readonly unavailableTimeout: number;
  /** Called when the lock cannot be had at once. */
  readonly onWait: () => void;
}

/** The wait of one entry. */
export class Waiting {
  readonly #entry: Entry;
  readonly #pace: Pace;
  readonly #pacing: Pacing;
  #others: Others = { foreigners: 0, holders: [] };
  #wake: () => void = () => {};
  /** Settles once the step that is under way has had its effect. */
  #underWay: Promise<void> | undefined;
  #asking = false;
  #stopAsking: () => void = () => {};

  constructor(entry: Entry, pace: Pace) {
    this.#entry = entry;
    this.#pace = pace;
    this.#pacing = new Pacing(pace.patience.checkInterval);
  }

  /** What kept it out last. */
  get others(): Others {
    return this.#others;
  }

  /** Something has become of the entry. */
  wake(): void {
    if (!this.#entry.open) this.#stopAsking();
    this.#wake();
  }

  /** A foreigner asked, and will be gone in a moment. */
  checkSoon(): void {
    if (this.#entry.state === "waiting" && this.#pacing.asked()) this.#wake();
  }

  /** Takes the first step, and others until it is known what becomes of it. */
  async settle(): Promise<void> {
    const { patience, waits, unavailableTimeout } = this.#pace;
    const entry = this.#entry;
    this.#step(waits ? "wait" : "attempt");
    const limit = waits
      ? patience.left
      : Math.max(patience.left, unavailableTimeout);
    const end = now() + limit;
    while (entry.open) {
      const left = end - now();
      if (left <= 0) break;
      const woken = await this.#pause(left);
      if (woken || entry.state !== "waiting") continue;
      this.#pacing.looked();
      this.#step("check");
    }
    entry.throwIfLost();
    if (entry.state === "entering" && !this.#asking) {
      throw new Unanswered("the server has not answered");
    }
  }

  #pause(left: number): Promise<boolean> {
    const { session, state } = this.#entry;
    const waiting = state === "waiting";
    return this.#pace.patience.untilWoken(
      waiting ? Math.min(left, this.#pacing.left) : left,
      (wake) => {
        this.#wake = wake;
        return () => this.#wake = () => {};
      },
      waiting ? undefined : session.alarm.set,
    );
  }

  #step(operation: Operation, allowed = ""): void {
    if (this.#underWay) return;
    this.#underWay = this.#entry.send(operation, allowed).then(
      (answer) => {
        this.#underWay = undefined;
        this.#answered(operation, answer);
      },
      (error) => {
        this.#underWay = undefined;
        // What was a master is none any more, for nobody.
        if (replyCode(error) === "READONLY") this.#entry.session.lose(error);
        else this.#entry.fail(error);
      },
    );
  }

  #answered(operation: Operation, answer: unknown): void {
    const entry = this.#entry;
    if (typeof answer === "string") return entry.hold(answer);
    // Messages are read before the replies that came with them, so this may be
    // older than the grant. If not, the server has lost its data.
    if (entry.held) return void entry.verify();
    if (!entry.open) return;
    const [foreigners, ...holders] = answer as [number, ...string[]];
    this.#others = { foreigners, holders };
    const joins = entry.kind === "s" && foreigners > 0 && !this.#asking &&
      holders.every((holder) => holder.startsWith("s"));
    if (joins) this.#join(operation === "attempt" ? "attempt" : "check");
    else if (operation === "attempt") entry.wait("refused");
    if (operation === "check") this.#suspect(holders);
    if (operation !== "wait") return;
    this.#pace.onWait();
    entry.wait("waiting");
  }

  /** Enters beside foreigners, if all of them share. */
  async #join(operation: "attempt" | "check"): Promise<void> {
    const { session, names } = this.#entry.presence;
    const { unavailableTimeout } = this.#pace;
    this.#asking = true;
    const over = new Promise<void>((resolve) => this.#stopAsking = resolve);
    const count = await othersShare(session, names, unavailableTimeout, over)
      .catch(() => undefined);
    // Dropped beside a look, the verdict might be so each time.
    while (this.#underWay) await this.#underWay;
    if (this.#entry.open) {
      this.#step(operation, count === undefined ? "" : String(count));
    }
    // An attempt asks once.
    this.#asking = operation === "attempt";
  }

  #suspect(holders: readonly string[]): void {
    const { session, names } = this.#entry.presence;
    const { unavailableTimeout } = this.#pace;
    for (const holder of holders) {
      if (partsOf(holder).session === session.id) continue;
      session.suspicions.meet(holder, names, unavailableTimeout)?.then(() => {
        if (this.#entry.state === "waiting") this.#step("check");
      });
    }
  }
}
