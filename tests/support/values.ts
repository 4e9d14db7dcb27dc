/** Small values that many tests need. */

import assert from "node:assert/strict";

/** A promise with the functions that settle it. */
export interface Deferred<T> {
  promise: Promise<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

/** Returns a promise that the caller settles. */
export function deferred<T = void>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((...settle) => [resolve, reject] = settle);
  return { promise, resolve, reject };
}

/**
 * Returns the item at an index.
 *
 * @throws {RangeError} If the list does not have an item there.
 */
export function at<T>(list: readonly T[], index: number): T {
  const item = list.at(index);
  if (item === undefined) {
    throw new RangeError(`item ${index} does not exist in [${list}]`);
  }
  return item;
}

/** A tuple of `N` items. */
type Tuple<T, N extends number, Items extends T[] = []> =
  Items["length"] extends N ? Items : Tuple<T, N, [...Items, T]>;

/**
 * Returns the first items of a list as a tuple.
 *
 * @throws {RangeError} If the list has fewer items.
 */
export function firstItems<T, N extends number>(
  list: readonly T[],
  count: N,
): Tuple<T, N> {
  if (list.length < count) {
    throw new RangeError(`[${list}] does not have ${count} items`);
  }
  return list.slice(0, count) as Tuple<T, N>;
}

/**
 * Returns a value of a record.
 *
 * @throws {RangeError} If the record does not have the key.
 */
export function entry<T>(record: Record<string, T>, key: string): T {
  const value = record[key];
  if (value === undefined) throw new RangeError(`unknown name: ${key}`);
  return value;
}

/**
 * Returns a function that checks a `SuppressedError`, for `assert.rejects`.
 *
 * @param release The code of the error of the release.
 * @param suppressed The earlier error.
 */
export function suppressing(
  release: string,
  suppressed: unknown,
): (thrown: unknown) => boolean {
  return (thrown) => {
    const both = thrown as SuppressedError;
    assert.equal(both.name, "SuppressedError");
    assert.equal(both.error.code, release);
    assert.deepEqual([both.suppressed], [suppressed]);
    return true;
  };
}
