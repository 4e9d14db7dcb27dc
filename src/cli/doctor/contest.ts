/**
 * Processes that do the same at the same time: acquire a lock, or update a file.
 */

import type { Party } from "./parties.ts";
import type { Contended } from "./protocol.ts";
import type { ContestReport, LockerName, UpdateReport } from "./types.ts";

/** How long a process may wait for the others, on a loaded machine, too. */
const MAX_WAIT_MS = 20_000;

/** When the processes stop, although they have not acquired it often enough. */
const CONTEST_MS = 5000;

/**
 * How long a process stays inside, in milliseconds. Its time inside, as other
 * processes see it, is shorter by twice the error of the clocks. At four times
 * that error, half of it remains.
 */
const MIN_SECTION_MS = 1;
const MAX_SECTION_MS = 20;
const SECTION_PER_ERROR = 4;

/** A time in which a process certainly held a lock, in milliseconds. */
export interface Section {
  readonly process: number;
  readonly exclusive: boolean;
  readonly enter: number;
  readonly leave: number;
}

/** How often two processes were inside that must not be, and for how long. */
export interface Overlaps {
  /** How many sections were compared: those that are longer than 0. */
  readonly compared: number;
  readonly count: number;
  readonly longest: number;
}

/** Lets processes acquire one lock again and again. */
export async function runContest(
  parties: readonly Party[],
  locker: LockerName,
  acquisitions: number,
): Promise<ContestReport> {
  const clockError = Math.max(
    ...await Promise.all(parties.map(({ probe }) => probe.compareClocks())),
  );
  const how = {
    locker,
    acquisitions,
    section: sectionFor(clockError),
    duration: CONTEST_MS,
    timeout: MAX_WAIT_MS,
  };
  const start = performance.now();
  const results = await Promise.all(
    parties.map(({ probe, path }) =>
      probe.callFor(CONTEST_MS + MAX_WAIT_MS, "contend", path, how)
    ),
  );
  const duration = performance.now() - start;
  const sections = results.flatMap((result, index) =>
    toSections(result, parties[index]!, index)
  );
  const overlaps = findOverlaps(sections);
  return {
    processes: parties.length,
    duration,
    acquired: sections.length,
    waited: sum(results.map(({ waited }) => waited)),
    compared: overlaps.compared,
    clockError,
    overlaps: overlaps.count,
    longestOverlap: overlaps.longest,
    gaveUp: results.filter(({ gaveUp }) => gaveUp).length,
    staleReads: countStale(results.flatMap(({ reads }) => reads)),
  };
}

/** Returns how long a process stays inside. */
export function sectionFor(clockError: number): number {
  const enough = Math.max(MIN_SECTION_MS, SECTION_PER_ERROR * clockError);
  return Math.min(MAX_SECTION_MS, enough);
}

function toSections(
  { sections }: Contended,
  { probe }: Party,
  index: number,
): Section[] {
  return sections.map(([enter, leave, exclusive]) => {
    const { time, error } = probe.toOwnTime(enter);
    return {
      process: index,
      exclusive,
      enter: time + error,
      leave: probe.toOwnTime(leave).time - error,
    };
  });
}

/**
 * Counts the sections that overlap with an earlier section of another process,
 * if one of both is exclusive.
 */
export function findOverlaps(sections: readonly Section[]): Overlaps {
  const sorted = sections.filter(({ enter, leave }) => enter < leave)
    .sort((a, b) => a.enter - b.enter);
  let inside: Section[] = [];
  let count = 0;
  let longest = 0;
  for (const section of sorted) {
    inside = inside.filter(({ leave }) => leave > section.enter);
    const times = inside.filter((other) => conflict(other, section))
      .map(({ leave }) => Math.min(leave, section.leave) - section.enter)
      .filter((time) => time > 0);
    if (times.length > 0) count++;
    longest = Math.max(longest, ...times);
    inside.push(section);
  }
  return { compared: sorted.length, count, longest };
}

function conflict(one: Section, other: Section): boolean {
  return one.process !== other.process && (one.exclusive || other.exclusive);
}

/**
 * Counts the reads of a counter, before each increment, that did not return
 * what the increment before had written. If all did, the numbers are 0, 1, 2,
 * and so on, in some order.
 */
export function countStale(reads: readonly number[]): number {
  const valid = new Set(
    reads.filter((count) => count >= 0 && count < reads.length),
  );
  return reads.length - valid.size;
}

/** Lets processes increment the counter of one file with `updateFile`. */
export async function runUpdates(
  parties: readonly Party[],
  times: number,
): Promise<UpdateReport> {
  const counts = await Promise.all(
    parties.map(({ probe, path }) =>
      probe.callFor(MAX_WAIT_MS, "update", path, times, MAX_WAIT_MS)
    ),
  );
  const made = sum(counts);
  const { probe, path } = parties[0]!;
  const lost = Math.max(0, made - await probe.call("count", path));
  return { processes: parties.length, made, lost };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0);
}
