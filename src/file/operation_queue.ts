/** `OperationQueue`: runs the operations of one open file in order. */

/** A waiting operation. */
interface Waiter {
  readonly start: () => void;
  next: Waiter | undefined;
}

/**
 * The operations of one open file, of which one runs at a time, in the order of
 * the calls. All of them use one position, and a thread of the pool that runs
 * the second operation may be faster than the one that runs the first:
 *
 * 1. `writeText("a")` and `writeText("b")`: the file would contain "ba".
 * 2. `seek(0)` and `writeText("a")`: a write that was called before the seek
 *    would write at the start.
 * 3. `readText()` and `writeText("a")`: the read would continue after the "a".
 *
 * An operation that fails does not stop the next one.
 */
export class OperationQueue {
  #busy = false;
  /** The waiting operations, as a list: each one is freed when it starts. */
  #first: Waiter | undefined;
  #last: Waiter | undefined;

  /** Whether an operation runs or waits. */
  get busy(): boolean {
    return this.#busy;
  }

  /** Enters the queue. Returns a promise to await, unless it is empty. */
  enter(): Promise<void> | undefined {
    if (this.#busy) return this.#wait();
    this.#busy = true;
  }

  /** Starts the next operation. */
  leave(): void {
    const next = this.#first;
    if (next === undefined) {
      this.#busy = false;
      return;
    }
    this.#first = next.next;
    if (this.#first === undefined) this.#last = undefined;
    next.start();
  }

  #wait(): Promise<void> {
    return new Promise((start) => {
      const waiter = { start, next: undefined };
      if (this.#last === undefined) this.#first = waiter;
      else this.#last.next = waiter;
      this.#last = waiter;
    });
  }
}
