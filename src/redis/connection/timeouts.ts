/** The `unavailableTimeout`s of the users of one connection. */

/** How many users have each timeout, in milliseconds. Most have the same. */
export class Timeouts {
  readonly #counts = new Map<number, number>();

  /** How many different timeouts there are. */
  get size(): number {
    return this.#counts.size;
  }

  /** The shortest timeout, `Infinity` without any. */
  get shortest(): number {
    return Math.min(...this.#counts.keys());
  }

  /** The longest timeout, `-Infinity` without any. */
  get longest(): number {
    return Math.max(...this.#counts.keys());
  }

  /** Adds the timeout of one user. */
  add(timeout: number): void {
    this.#counts.set(timeout, (this.#counts.get(timeout) ?? 0) + 1);
  }

  /** Removes the timeout of one user. */
  remove(timeout: number): void {
    const count = this.#counts.get(timeout) ?? 0;
    if (count > 1) this.#counts.set(timeout, count - 1);
    else this.#counts.delete(timeout);
  }

  /** Returns every different timeout. */
  values(): Iterable<number> {
    return this.#counts.keys();
  }
}
