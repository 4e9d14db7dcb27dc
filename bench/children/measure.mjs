/**
 * Times single operations. Every sample holds one reading of the clock, as in
 * the C and Python children; `performance.now` has nanoseconds on all runtimes
 * and, unlike `process.hrtime.bigint`, allocates nothing.
 */

/** More than any contender manages within the time of a round. */
const CAPACITY = 1 << 20;

const taken = new Float64Array(CAPACITY);

/** Acquires and releases, one after the other, until the time is over. */
export function measureSync({ acquire, release }, milliseconds) {
  let count = 0;
  let end = performance.now();
  const last = end + milliseconds;
  while (end < last && count < CAPACITY) {
    const start = performance.now();
    acquire();
    release();
    end = performance.now();
    taken[count++] = end - start;
  }
  return histogram(count);
}

/** The same, waiting for either half. */
export async function measure({ acquire, release }, milliseconds) {
  let count = 0;
  let end = performance.now();
  const last = end + milliseconds;
  while (end < last && count < CAPACITY) {
    const start = performance.now();
    await acquire();
    await release();
    end = performance.now();
    taken[count++] = end - start;
  }
  return histogram(count);
}

/** The median of what reading the clock takes, in nanoseconds. */
export function clockCost() {
  const costs = new Float64Array(10_000);
  for (let i = 0; i < costs.length; i++) {
    const start = performance.now();
    costs[i] = performance.now() - start;
  }
  return Math.round(costs.sort()[costs.length / 2] * 1e6);
}

/** `[nanoseconds, count]`, ascending, the nanoseconds to three digits. */
function histogram(count) {
  const counts = new Map();
  for (const milliseconds of taken.subarray(0, count)) {
    const value = threeDigits(milliseconds * 1e6);
    counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  return [...counts].sort(([a], [b]) => a - b);
}

function threeDigits(value) {
  let unit = 1;
  while (value >= 1000 * unit) unit *= 10;
  return Math.round(value / unit) * unit;
}
