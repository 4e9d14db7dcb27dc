/**
 * Samples as `[nanoseconds, count]`, ascending, the nanoseconds rounded to
 * three digits as every child does.
 */

/** One histogram of several. */
export function merged(histograms) {
  const counts = new Map();
  for (const histogram of histograms) {
    for (const [value, count] of histogram) {
      counts.set(value, (counts.get(value) ?? 0) + count);
    }
  }
  return [...counts].sort(([a], [b]) => a - b);
}

export function size(histogram) {
  return histogram.reduce((sum, [, count]) => sum + count, 0);
}

/** The value below which the given share (0 to 1) of all samples lies. */
export function quantile(histogram, share) {
  const wanted = share * size(histogram);
  let seen = 0;
  for (const [value, count] of histogram) {
    seen += count;
    if (seen >= wanted) return value;
  }
  return NaN;
}
