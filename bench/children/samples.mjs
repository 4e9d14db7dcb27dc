/** Records how long single operations take. */

/** More than any contender takes within the time of a run. */
const CAPACITY = 1 << 22;

export class Samples {
  #milliseconds;
  #count = 0;

  constructor(capacity = CAPACITY) {
    this.#milliseconds = new Float64Array(capacity);
  }

  get full() {
    return this.#count === this.#milliseconds.length;
  }

  clear() {
    this.#count = 0;
  }

  /** @param {number} milliseconds */
  add(milliseconds) {
    this.#milliseconds[this.#count++] = milliseconds;
  }

  /**
   * Returns the samples in ascending order, rounded to three digits.
   *
   * @returns {import("./types.ts").Histogram}
   */
  histogram() {
    /** @type {Map<number, number>} */
    const counts = new Map();
    for (const milliseconds of this.#milliseconds.subarray(0, this.#count)) {
      const value = threeDigits(milliseconds * 1e6);
      counts.set(value, (counts.get(value) ?? 0) + 1);
    }
    return [...counts].sort(([a], [b]) => a - b);
  }
}

/** @param {number} value */
function threeDigits(value) {
  let unit = 1;
  while (value >= 1000 * unit) unit *= 10;
  return Math.round(value / unit) * unit;
}
