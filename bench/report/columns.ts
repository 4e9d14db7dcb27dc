/** What the scenarios that time single operations have in common. */

import { short, whole } from "./format.mjs";

/** For results in microseconds, with those of C beside them. */
export const COLUMNS = [
  { title: "", cell: ({ label }) => label },
  { title: "median µs", cell: ({ median }) => short(median) },
  { title: "p99 µs", cell: ({ p99 }) => short(p99) },
  { title: "times C", cell: ({ besideC }) => short(besideC) },
  {
    title: "median by round",
    cell: ({ lowestMedian, highestMedian }) =>
      `${short(lowestMedian)} to ${short(highestMedian)}`,
  },
  { title: "samples", cell: ({ count }) => whole(count) },
];

/** The aim that one kind of ours takes so many times as long as C at most. */
export function withinTimesC(kind, most) {
  return {
    kind,
    text: `within ${most} times C`,
    figure: ({ besideC }) => besideC,
    most,
    shown: short,
  };
}
