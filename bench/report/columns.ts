/** Columns and thresholds of the scenarios that compare times with C. */

import type { Column, ContenderInfo, Threshold } from "../types.ts";
import { short, whole } from "./format.ts";

/** Times in microseconds, and their ratio to that of C. */
export interface TimesBesideC extends ContenderInfo {
  readonly median: number;
  readonly p99: number;
  readonly besideC: number | null;
  readonly lowestMedian: number;
  readonly highestMedian: number;
  readonly count: number;
}

/** The first column of most tables. */
export const LABEL: Column<ContenderInfo> = {
  title: "",
  cell: ({ label }) => label,
};

export const MEDIAN_BY_ROUND: Column<
  Pick<TimesBesideC, "lowestMedian" | "highestMedian">
> = {
  title: "median by round",
  cell: ({ lowestMedian, highestMedian }) =>
    `${short(lowestMedian)} to ${short(highestMedian)}`,
};

export const TIME_COLUMNS: readonly Column<TimesBesideC>[] = [
  LABEL,
  { title: "median µs", cell: ({ median }) => short(median) },
  { title: "p99 µs", cell: ({ p99 }) => short(p99) },
  { title: "times C", cell: ({ besideC }) => short(besideC) },
  MEDIAN_BY_ROUND,
  { title: "samples", cell: ({ count }) => whole(count) },
];

/** The threshold that one kind takes at most some multiple of C's time. */
export function withinTimesC(
  kind: string,
  atMost: number,
): Threshold<TimesBesideC> {
  return {
    kind,
    text: `within ${atMost} times C`,
    figure: ({ besideC }) => besideC,
    atMost,
    format: short,
  };
}
