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
import type { Party } from "./parties.ts";
import type { How } from "./protocol.ts";
import type { LockerName, TrialReport } from "./types.ts";

/** The pause between two attempts on a lock that should be free. */
const RETRY_MS = 20;

/** How long two processes overlap that can. */
const OVERLAP_MS = 2;

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
  releaseTimeout: number,
): Promise<TrialReport[]> {
  const reports: TrialReport[] = [];
  for (const trial of trialsOf(locker)) {
    const report = await runTrial(holder, contender, trial, releaseTimeout);
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
  releaseTimeout: number,
): Promise<TrialReport> {
  const isHeld = await holdSoon(holder, held, releaseTimeout);
  const { locked } = await contender.probe.call(
    "hold",
    contender.path,
    requested,
  );
  const replied = performance.now();
  if (isHeld && locked) await delay(OVERLAP_MS);
  const overlap = isHeld && locked ? performance.now() - replied : 0;
  await holder.probe.call("drop", holder.path);
  const acquiredAfterRelease = locked ||
    await holdSoon(contender, requested, releaseTimeout);
  await contender.probe.call("drop", contender.path);
  return {
    held: formatHow(held),
    requested: formatHow(requested),
    expected,
    acquired: locked,
    overlap,
    acquiredAfterRelease: isHeld && acquiredAfterRelease,
  };
}

function formatHow({ exclusive, range }: How): string {
  const name = exclusive ? "exclusive" : "shared";
  if (range === undefined) return name;
  return `${name} ${range.start}-${range.start + range.length - 1}`;
}

/** Locks a free file. On a network, a release may take a moment. */
export async function holdSoon(
  { probe, path }: Party,
  how: How,
  timeout: number,
): Promise<boolean> {
  for (const end = performance.now() + timeout;;) {
    if ((await probe.call("hold", path, how)).locked) return true;
    if (performance.now() >= end) return false;
    await delay(RETRY_MS);
  }
}

/**
 * What one holder writes after the other to an empty file. A system may keep a copy
 * of the size, or of the content, so the second text has another size than the
 * first, and the third has the same. Some look at the size again after they have
 * read content, so the first text is empty.
 */
const TEXTS = ["", "a", "b"];

/**
 * Returns whether a process that holds the lock reads what the holder before it
 * has written. It has read the file before, so its system may have a copy.
 *
 * @param reader The file is that of the writer. It is empty, and new.
 * @returns `null` if the lock is not free.
 */
export async function readsBack(
  writer: Party,
  reader: Party,
  locker: LockerName,
): Promise<boolean | null> {
  for (const text of TEXTS) {
    await writer.probe.call("write", writer.path, locker, text);
    const found = await reader.probe.call("read", reader.path, locker);
    if (found === null) return null;
    if (found !== text) return false;
  }
  return true;
}

/**
 * Returns whether the system reports to one process what another closes.
 *
 * The watcher closes a second file afterwards, the fence, and waits for the
 * report of that. The kernel queues reports in order, so it has reported the
 * first close before, however slow the machine is. Only a file that a server
 * closes, as with FUSE, may be reported later: up to a second.
 */
export async function reportsClose(
  closer: Party,
  watcher: Party,
  fence: string,
): Promise<boolean> {
  if (!await watcher.probe.call("watch", watcher.path)) return false;
  await closer.probe.call("touch", closer.path);
  return watcher.probe.call("closed", watcher.path, fence);
}
