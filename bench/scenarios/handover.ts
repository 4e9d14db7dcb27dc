/**
 * Scenario: two processes take turns with one lock; the sample is the time from
 * just before the release of one to just after the acquire of the other. See
 * `turns.mjs`.
 */

import { short } from "../format.mjs";
import { besideC, inRounds } from "../rounds.mjs";
import { COLUMNS, withinTimesC } from "../times.mjs";
import { awakeIf, method, pooled, turns } from "../turns.mjs";
import { freshPath } from "../workspace.mjs";

export const title = "Hand-over from one process to another that waits, " +
  "release to acquired";
export const ROUNDS = 3;

export { COLUMNS, method };

export async function run(contenders, folder, { rounds, awake }) {
  const once = async (contender) =>
    (await turns(contender, freshPath(folder))).samples;
  const { results, failed } = await awakeIf(
    awake,
    folder,
    () => inRounds(contenders, rounds, once, pooled),
  );
  return {
    results: besideC(results, (one, c) => one.median / c.median),
    failed,
  };
}

export function aims(results) {
  const median = (name) =>
    results.find((result) => result.name === name)?.median ?? NaN;
  const ahead = (kind, other, least, text) => ({
    kind,
    onlyWithFfi: true,
    text,
    figure: (ours) => median(other) / ours.median,
    least,
    shown: (value) => `${short(value)} times`,
  });
  return [
    withinTimesC("sync", 3),
    withinTimesC("endless", 3),
    withinTimesC("async", 8),
    ahead("async", "fs-ext-async", 1, "ahead of fs-ext, a thread per waiter"),
    ahead("async", "deno-fsfile-async", 1, "ahead of Deno.FsFile, likewise"),
    ahead("sync", "portalocker", 1000, "1,000 times ahead of portalocker"),
    ahead("async", "portalocker", 1000, "1,000 times ahead of portalocker"),
  ];
}
