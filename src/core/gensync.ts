/**
 * Work that is written once and carried out in two ways: waiting for promises,
 * or blocking the thread. A recipe is a generator that yields its steps, each
 * in both forms, and is given back what the step returned.
 */

/** One step in both its forms. */
export interface Step<T> {
  /** May return a promise. */
  readonly wait: () => T | Promise<T>;
  /** Blocks the thread instead. */
  readonly block: () => T;
}

/** Steps in their order, and a result. */
export type Recipe<Result> = Generator<Step<unknown>, Result, unknown>;

/** A recipe of one step. */
export function* step<T>(
  wait: () => T | Promise<T>,
  block: () => T,
): Recipe<T> {
  return (yield { wait, block }) as T;
}

/** Carries a recipe out whose errors would hide what matters more. */
export function* quietly(recipe: Recipe<void>): Recipe<void> {
  try {
    yield* recipe;
  } catch {
    // The caller has its own to throw, or can do without.
  }
}

/** Carries a recipe out; the thread is free wherever a step gives a promise. */
export async function perform<Result>(recipe: Recipe<Result>): Promise<Result> {
  let at = recipe.next();
  while (!at.done) {
    let answer: unknown;
    try {
      answer = at.value.wait();
      if (answer instanceof Promise) answer = await answer;
    } catch (error) {
      at = recipe.throw(error);
      continue;
    }
    at = recipe.next(answer);
  }
  return at.value;
}

/** Carries a recipe out, blocking the thread. */
export function performSync<Result>(recipe: Recipe<Result>): Result {
  let at = recipe.next();
  while (!at.done) {
    let answer: unknown;
    try {
      answer = at.value.block();
    } catch (error) {
      at = recipe.throw(error);
      continue;
    }
    at = recipe.next(answer);
  }
  return at.value;
}
