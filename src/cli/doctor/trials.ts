/**
 * Two processes that try to overlap, step by step.
 *
 * The parent orders the steps, so what it concludes does not depend on clocks.
 * H is the holder, C the contender:
 *
 * - P.1 The parent asks H to lock, and gets its reply.
 * - P.2 The parent asks C to lock, and gets its reply.
 * - P.3 The parent asks H to release.
 *
 * H has held its lock from its reply until P.3. If C has locked, too, both have
 * held their locks from the reply of C until P.3.
 */

import { setTimeout as delay } from "node:timers/promises";
import type { Probe, Time } from "./probe_process.ts";
import type { How } from "./protocol.ts";
import type {
  KillReport,
  LockerName,
  TrialReport,
  WaitReport,
} from "./types.ts";

/** How long a free lock may stay refused after its release. */
const RELEASE_MS = 2000;

/** The pause between two attempts on a lock that should be free. */
const RETRY_MS = 20;

/** How long the lock of a killed process may last. */
const KILL_MS = 5000;

/** How long a waiter waits before the release, so that its polls are rare. */
const WAIT_MS = 100;

/** How long two processes overlap that can. */
const OVERLAP_MS = 2;

/** How often a waiter waits. */
const HAND_OVERS = 5;

/** How long the report of a close may take. */
const CLOSE_MS = 1000;

/** How long a waiter may wait for a lock that is free. */
const HAND_OVER_MS = 5000;

/** A process, and the path by which it locks a file. */
export interface Party {
  readonly probe: Probe;
  readonly path: string;
}

interface Trial {
  readonly held: How;
  readonly requested: How;
  readonly expected: boolean;
}

/** Returns what to try with a kind of lock. */
function trialsOf(locker: LockerName): Trial[] {
  const exclusive: How = { locker, exclusive: true };
  const shared: How = { locker, exclusive: false };
  const range = (start: number): How => ({
    ...exclusive,
    range: { start, length: 100 },
  });
  const trials: Trial[] = [
    { held: exclusive, requested: exclusive, expected: false },
    { held: exclusive, requested: shared, expected: false },
    { held: shared, requested: exclusive, expected: false },
    { held: shared, requested: shared, expected: true },
  ];
  if (locker === "flock") return trials;
  return [
    ...trials,
    { held: range(0), requested: range(50), expected: false },
    { held: range(0), requested: range(100), expected: true },
  ];
}

/** Tries everything that a kind of lock promises. */
export async function runTrials(
  holder: Party,
  contender: Party,
  locker: LockerName,
): Promise<TrialReport[]> {
  const reports: TrialReport[] = [];
  for (const trial of trialsOf(locker)) {
    const report = await runTrial(holder, contender, trial);
    reports.push(report);
    // Every other trial would wait as long, and end in the same way.
    if (!report.acquiredAfterRelease) break;
  }
  return reports;
}

async function runTrial(
  holder: Party,
  contender: Party,
  { held, requested, expected }: Trial,
): Promise<TrialReport> {
  const isHeld = await holdSoon(holder, held);
  const { locked } = await contender.probe.call(
    "hold",
    contender.path,
    requested,
  );
  const replied = performance.now();
  if (isHeld && locked) await delay(OVERLAP_MS);
  const overlap = isHeld && locked ? performance.now() - replied : 0;
  await holder.probe.call("drop", holder.path);
  const acquiredAfterRelease = locked || await holdSoon(contender, requested);
  await contender.probe.call("drop", contender.path);
  return {
    held: describe(held),
    requested: describe(requested),
    expected,
    acquired: locked,
    overlap,
    acquiredAfterRelease: isHeld && acquiredAfterRelease,
  };
}

function describe({ exclusive, range }: How): string {
  const name = exclusive ? "exclusive" : "shared";
  if (range === undefined) return name;
  return `${name} ${range.start}-${range.start + range.length - 1}`;
}

/** Locks a free file. On a network, a release may take a moment. */
async function holdSoon({ probe, path }: Party, how: How): Promise<boolean> {
  for (const end = performance.now() + RELEASE_MS;;) {
    if ((await probe.call("hold", path, how)).locked) return true;
    if (performance.now() >= end) return false;
    await delay(RETRY_MS);
  }
}

/** Returns whether the system reports to one process what another closes. */
export async function reportsClose(
  closer: Party,
  watcher: Party,
): Promise<boolean> {
  if (!await watcher.probe.call("watch", watcher.path)) return false;
  await closer.probe.call("touch", closer.path);
  return watcher.probe.callFor(CLOSE_MS, "closed", watcher.path, CLOSE_MS);
}

/** A lock that a waiter waited for: when it was free, and when it was held. */
interface HandOver {
  readonly outcome: "late" | "early" | "never";
  readonly duration: number;
  readonly clockError: number;
}

/** Measures how long a waiter needs to acquire a lock after its release. */
export async function measureHandOver(
  holder: Party,
  waiter: Party,
  locker: LockerName,
  woken: boolean,
): Promise<WaitReport> {
  const how: How = { locker, exclusive: true };
  const all: HandOver[] = [];
  for (let i = 0; i < HAND_OVERS && all.every(isLate); i++) {
    const isHeld = await holdSoon(holder, how);
    const waiting = wait(waiter, how, HAND_OVER_MS);
    await delay(WAIT_MS);
    const at = await holder.probe.call("drop", holder.path);
    const handOver = await waiting(holder.probe.toOwnTime(at));
    all.push(isHeld ? handOver : { ...handOver, outcome: "never" });
  }
  const clockError = Math.max(...all.map((each) => each.clockError));
  const times = all.map(({ duration }) => duration).sort((a, b) => a - b);
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
      handOver: times[times.length >> 1] ?? null,
      longest: times.at(-1) ?? null,
      clockError,
    };
}

const isLate = ({ outcome }: HandOver) => outcome === "late";

/**
 * Starts to wait for a lock. Returns a function that waits for the end, and
 * releases the lock. It gets the time when the lock was free.
 */
function wait(
  { probe, path }: Party,
  how: How,
  timeout: number,
): (freed: Time) => Promise<HandOver> {
  const waiting = probe.callFor(timeout, "wait", path, how, timeout);
  waiting.catch(() => {});
  return async (freed) => {
    const { locked, at } = await waiting;
    await probe.call("drop", path);
    const { time, error } = probe.toOwnTime(at);
    const clockError = error + freed.error;
    const duration = Math.max(0, time - freed.time);
    const isEarly = time < freed.time - clockError;
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
): Promise<Map<LockerName, KillReport>> {
  const waits = [];
  for (const { locker, held, waiter } of bequests) {
    const how: How = { locker, exclusive: true };
    const isHeld = await holdSoon(held, how);
    waits.push({ locker, isHeld, waiting: wait(waiter, how, KILL_MS) });
  }
  await delay(WAIT_MS);
  const killed: Time = { time: performance.now(), error: 0 };
  for (const { held } of bequests) held.probe.kill();
  const reports = new Map<LockerName, KillReport>();
  for (const { locker, isHeld, waiting } of waits) {
    const { outcome, duration } = await waiting(killed);
    reports.set(
      locker,
      isHeld && outcome === "late"
        ? { acquired: "after the kill", freedAfter: duration }
        : {
          acquired: isHeld && outcome === "early" ? "early" : "never",
          freedAfter: null,
        },
    );
  }
  return reports;
}
