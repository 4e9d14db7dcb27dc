/** Notes how long single operations take. */

/** More than any contender manages within the time of a run. */
const CAPACITY = 1 << 22;

export class Samples {
  #taken;
  #count = 0;

  constructor(capacity = CAPACITY) {
    this.#taken = new Float64Array(capacity);
  }

  get full() {
    return this.#count === this.#taken.length;
  }

  clear() {
    this.#count = 0;
  }

  add(milliseconds) {
    this.#taken[this.#count++] = milliseconds;
  }

  /** `[nanoseconds, count]`, ascending, the nanoseconds to three digits. */
  histogram() {
    const counts = new Map();
    for (const milliseconds of this.#taken.subarray(0, this.#count)) {
      const value = threeDigits(milliseconds * 1e6);
      counts.set(value, (counts.get(value) ?? 0) + 1);
    }
    return [...counts].sort(([a], [b]) => a - b);
  }
}

function threeDigits(value) {
  let unit = 1;
  while (value >= 1000 * unit) unit *= 10;
  return Math.round(value / unit) * unit;
}
