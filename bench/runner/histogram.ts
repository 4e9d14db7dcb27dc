/** Histograms, whose samples every child rounds to three digits. */

/** Nanoseconds in ascending order, and how many samples have them. */
export type Histogram = readonly (readonly [
  nanoseconds: number,
  count: number,
])[];

/** Makes one histogram of several. */
export function merge(histograms: readonly Histogram[]): Histogram {
  const counts = new Map<number, number>();
  for (const histogram of histograms) {
    for (const [value, count] of histogram) {
      counts.set(value, (counts.get(value) ?? 0) + count);
    }
  }
  return [...counts].sort(([a], [b]) => a - b);
}

/** Returns how many samples a histogram has. */
export function size(histogram: Histogram): number {
  return histogram.reduce((sum, [, count]) => sum + count, 0);
}

/** Returns the value below which the given share (0 to 1) of samples lies. */
export function quantile(histogram: Histogram, share: number): number {
  const wanted = share * size(histogram);
  let seen = 0;
  for (const [value, count] of histogram) {
    seen += count;
    if (seen >= wanted) return value;
  }
  return NaN;
}

/** {@linkcode quantile} of ascending values that are not a histogram. */
export function quantileOf(values: readonly number[], share: number): number {
  return values[Math.max(0, Math.ceil(share * values.length) - 1)] ?? NaN;
}
