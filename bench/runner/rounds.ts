/** Runs contenders in rounds, and compares their results with a baseline. */

import process from "node:process";
import type { Contender, ContenderInfo, Measured } from "../types.ts";

/**
 * Runs every contender in every round, one at a time and in random order, so
 * that other load on the machine affects them alike. A contender that fails is
 * left out of the rounds after that.
 *
 * @param once Resolves to the figures of one contender and round.
 * @param summarize Makes one result of the figures of all rounds.
 * @returns One result per contender, in their order, and the failures.
 */
export async function inRounds<Figures, Result extends object>(
  contenders: readonly Contender[],
  rounds: number,
  once: (contender: Contender) => Promise<Figures>,
  summarize: (rounds: readonly Figures[]) => Result,
): Promise<Measured<ContenderInfo & Result>> {
  const runs = new Map<Contender, Figures[]>(
    contenders.map((contender) => [contender, []]),
  );
  const failed = [];
  for (let round = 1; round <= rounds; round++) {
    for (const [contender, figures] of shuffled([...runs])) {
      progress(`Round ${round} of ${rounds}: ${contender.name}`);
      try {
        figures.push(await once(contender));
      } catch (error) {
        runs.delete(contender);
        failed.push({
          ...contenderInfo(contender),
          reason: (error as Error).message,
        });
      }
    }
  }
  progress("");
  const results = contenders.flatMap((contender) => {
    const figures = runs.get(contender);
    return figures === undefined
      ? []
      : [{ ...contenderInfo(contender), ...summarize(figures) }];
  });
  return { results, failed };
}

/** A result and its ratio to that of C, `null` if C is not measured. */
export type BesideC<Result> = Result & { besideC: number | null };

/** Adds to each result the ratio of one of its figures to that of C. */
export function besideC<Result extends ContenderInfo>(
  results: readonly Result[],
  ratio: (result: Result, c: Result) => number,
): BesideC<Result>[] {
  return beside(results, () => "c", ratio)
    .map(({ result, ratio }) => ({ ...result, besideC: ratio }));
}

/**
 * Returns each result with the ratio of one of its figures to that of its
 * baseline, or `null` if the baseline is not measured.
 *
 * @param baseline Returns the name of the contender to compare with.
 */
export function beside<Result extends ContenderInfo>(
  results: readonly Result[],
  baseline: (result: Result) => string,
  ratio: (result: Result, baseline: Result) => number,
): { result: Result; ratio: number | null }[] {
  return results.map((result) => {
    const base = results.find(({ name }) => name === baseline(result));
    return { result, ratio: base === undefined ? null : ratio(result, base) };
  });
}

/** Returns what results keep of a contender. */
export function contenderInfo(
  { name, label, ours, kind, withoutFfi }: ContenderInfo,
): ContenderInfo {
  return { name, label, ours, kind, withoutFfi };
}

/** Shows a line on a terminal, in place of the line before. */
export function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

/** Returns the items in random order (Fisher and Yates). */
export function shuffled<Item>(items: readonly Item[]): Item[] {
  const rest = [...items];
  const result: Item[] = [];
  while (rest.length > 0) {
    result.push(...rest.splice(Math.floor(Math.random() * rest.length), 1));
  }
  return result;
}
