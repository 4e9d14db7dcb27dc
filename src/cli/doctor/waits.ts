/**
 * Processes that wait for a lock until its holder releases it or is killed.
 *
 * The parent orders the steps. H is the holder, W the waiter:
 *
 * - P.1 The parent asks H to lock, and gets its reply.
 * - P.2 The parent asks W to lock, and gets its reply: W has waited 100 ms, or
 *   has the lock.
 * - P.3 The parent asks H to release, or kills it.
 * - P.4 The parent asks W when it acquired the lock, and gets its reply.
 *
 * If W has the lock at P.2, it was early, whatever the clocks say. Between P.2
 * and P.3, the clocks decide. So a machine on which W is slow to start delays
 * P.3, and the times are those of a process that waits.
 */

import type { Party } from "./parties.ts";
import type { Time } from "./probe_process.ts";
import type { How } from "./protocol.ts";
import { holdSoon } from "./trials.ts";
import type { KillReport, LockerName, WaitReport } from "./types.ts";

/** A lock that a waiter waited for: when it was free, and when it was held. */
interface HandOver {
  readonly outcome: "late" | "early" | "never";
  readonly duration: number;
  readonly clockError: number;
}

/** How to measure {@linkcode measureHandOver}. */
interface HandOverPlan {
  readonly locker: LockerName;
  /** Whether the system reports to the waiter what the holder closes. */
  readonly woken: boolean;
  readonly times: number;
  readonly timeout: number;
}

/** Measures how long a waiter needs to acquire a lock after its release. */
export async function measureHandOver(
  holder: Party,
  waiter: Party,
  { locker, woken, times, timeout }: HandOverPlan,
): Promise<WaitReport> {
  const how: How = { locker, exclusive: true };
  const all: HandOver[] = [];
  for (let i = 0; i < times && all.every(isLate); i++) {
    const isHeld = await holdSoon(holder, how, timeout);
    const finish = await wait(waiter, how, timeout);
    const at = await holder.probe.call("drop", holder.path);
    const handOver = await finish(holder.probe.toOwnTime(at));
    all.push(isHeld ? handOver : { ...handOver, outcome: "never" });
  }
  const clockError = Math.max(...all.map((each) => each.clockError));
  const durations = all.map(({ duration }) => duration).sort((a, b) => a - b);
  const failed = all.find((each) => !isLate(each));
  return failed
    ? {
      acquired: failed.outcome === "early" ? "early" : "never",
      woken,
      handOver: null,
      longest: null,
      clockError,
    }
    : {
      acquired: "after the release",
      woken,
      handOver: durations[durations.length >> 1] ?? null,
      longest: durations.at(-1) ?? null,
      clockError,
    };
}

const isLate = ({ outcome }: HandOver) => outcome === "late";

/**
 * Returns when the process waits for a lock, or has it, with a function that
 * waits for the end, and releases the lock. It gets the time when the lock was
 * free.
 */
async function wait(
  { probe, path }: Party,
  how: How,
  timeout: number,
): Promise<(freed: Time) => Promise<HandOver>> {
  const waits = await probe.callFor(timeout, "wait", path, how, timeout);
  return async (freed) => {
    const { locked, at } = await probe.callFor(timeout, "acquired", path);
    await probe.call("drop", path);
    const { time, error } = probe.toOwnTime(at);
    const clockError = error + freed.error;
    const duration = Math.max(0, time - freed.time);
    const isEarly = !waits || time < freed.time - clockError;
    const outcome = !locked ? "never" : isEarly ? "early" : "late";
    return { outcome, duration, clockError };
  };
}

/** A lock of a process that will be killed, and a process that waits for it. */
export interface Bequest {
  readonly locker: LockerName;
  readonly held: Party;
  readonly waiter: Party;
}

/** Kills a process, and measures when each of its locks is free. */
export async function killHolder(
  bequests: readonly Bequest[],
  timeout: number,
): Promise<KillReport[]> {
  const waits = await Promise.all(
    bequests.map(async ({ locker, held, waiter }) => {
      const how: How = { locker, exclusive: true };
      const isHeld = await holdSoon(held, how, timeout);
      return { isHeld, finish: await wait(waiter, how, timeout) };
    }),
  );
  const killed: Time = { time: performance.now(), error: 0 };
  for (const { held } of bequests) held.probe.kill();
  return await Promise.all(waits.map(async ({ isHeld, finish }) => {
    const { outcome, duration } = await finish(killed);
    if (isHeld && outcome === "late") {
      return { acquired: "after the kill", freedAfter: duration };
    }
    const isEarly = isHeld && outcome === "early";
    return { acquired: isEarly ? "early" : "never", freedAfter: null };
  }));
}
