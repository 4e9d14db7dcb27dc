/** What the scenarios have in common. */

import process from "node:process";

/**
 * Every contender in every round, one at a time and in random order, so that
 * what else the machine does meets them all alike. Who fails once is out.
 *
 * @param once Resolves to the figures of one contender and round.
 * @param pooled Makes one result of the figures of all rounds.
 * @returns One result per contender, in their order, and who failed and why.
 */
export async function inRounds(contenders, rounds, once, pooled) {
  const runs = new Map(contenders.map((contender) => [contender, []]));
  const failed = [];
  for (let round = 1; round <= rounds; round++) {
    for (const contender of shuffled([...runs.keys()])) {
      progress(`Round ${round} of ${rounds}: ${contender.name}`);
      try {
        runs.get(contender).push(await once(contender));
      } catch (error) {
        runs.delete(contender);
        failed.push({ ...who(contender), reason: error.message });
      }
    }
  }
  progress("");
  const results = contenders.filter((one) => runs.has(one)).map((one) => ({
    ...who(one),
    ...pooled(runs.get(one)),
  }));
  return { results, failed };
}

/** Adds to each result the ratio of one of its figures to that of C. */
export function besideC(results, ratio) {
  return beside(results, "besideC", () => "c", ratio);
}

/**
 * Adds to each result, under a name, the ratio of one of its figures to that
 * of its baseline, `null` where that is missing.
 *
 * @param baseline Given a result, the name of the one it is compared with.
 */
export function beside(results, as, baseline, ratio) {
  return results.map((result) => {
    const base = results.find(({ name }) => name === baseline(result));
    return { ...result, [as]: base === undefined ? null : ratio(result, base) };
  });
}

/** Those facts of a contender that its results need. */
export function who({ name, label, ours, kind, withoutFfi }) {
  return { name, label, ours, kind, withoutFfi };
}

export function progress(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

/** Fisher and Yates. */
function shuffled(items) {
  const result = [...items];
  for (let i = result.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [result[i], result[j]] = [result[j], result[i]];
  }
  return result;
}
