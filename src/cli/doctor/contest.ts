/** Finds processes that were inside at the same time. */

/** A time in which a process certainly held a lock, in milliseconds. */
export interface Section {
  readonly process: number;
  readonly exclusive: boolean;
  readonly enter: number;
  readonly leave: number;
}

/** How often two processes were inside that must not be, and for how long. */
export interface Overlaps {
  readonly count: number;
  readonly longest: number;
}

/**
 * Counts the sections that overlap with an earlier section of another process,
 * if one of both is exclusive.
 */
export function findOverlaps(sections: readonly Section[]): Overlaps {
  const sorted = [...sections].sort((a, b) => a.enter - b.enter);
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
  return { count, longest };
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
