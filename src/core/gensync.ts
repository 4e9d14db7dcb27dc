/**
 * Work that is written once and carried out in two ways: waiting for promises,
 * or blocking the thread. A recipe is a generator that yields its steps, each
 * in both forms, and is given back what the step returned.
 */

/** One step in both its forms. */
export interface Op<T> {
  /** May return a promise. */
  readonly async: () => T | Promise<T>;
  /** Blocks the thread instead. */
  readonly sync: () => T;
}

/** Steps in their order, and a result. */
export type Gen<Result> = Generator<Op<unknown>, Result, unknown>;

/** A recipe of one step. */
export function* op<T>(
  wait: () => T | Promise<T>,
  block: () => T,
): Gen<T> {
  return (yield { async: wait, sync: block }) as T;
}

/** Carries a recipe out whose errors would hide what matters more. */
export function* ignoreErrors(gen: Gen<void>): Gen<void> {
  try {
    yield* gen;
  } catch {
    // The caller has its own to throw, or can do without.
  }
}

/** Carries a recipe out; the thread is free wherever a step gives a promise. */
export async function runAsync<Result>(gen: Gen<Result>): Promise<Result> {
  let at = gen.next();
  while (!at.done) {
    let answer: unknown;
    try {
      answer = at.value.async();
      if (answer instanceof Promise) answer = await answer;
    } catch (error) {
      at = gen.throw(error);
      continue;
    }
    at = gen.next(answer);
  }
  return at.value;
}

/** Carries a recipe out, blocking the thread. */
export function runSync<Result>(gen: Gen<Result>): Result {
  let at = gen.next();
  while (!at.done) {
    let answer: unknown;
    try {
      answer = at.value.sync();
    } catch (error) {
      at = gen.throw(error);
      continue;
    }
    at = gen.next(answer);
  }
  return at.value;
}
