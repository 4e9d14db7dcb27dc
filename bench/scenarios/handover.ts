/**
 * Scenario: two processes hand one lock back and forth. The sample is the time
 * from just before the release of one to just after the acquire of the other.
 * See `runner/ping_pong.ts`.
 */

import { TIME_COLUMNS, withinTimesC } from "../report/columns.ts";
import { short } from "../report/format.ts";
import {
  awakeIf,
  method,
  pingPong,
  summarizeHandOvers,
} from "../runner/ping_pong.ts";
import type { HandOverFigures } from "../runner/ping_pong.ts";
import { besideC, inRounds } from "../runner/rounds.ts";
import type { BesideC } from "../runner/rounds.ts";
import { freshPath } from "../runner/workspace.ts";
import type {
  Contender,
  ContenderInfo,
  Measured,
  RunOptions,
  Threshold,
} from "../types.ts";

export const title = "Hand-over from one process to another that waits, " +
  "release to acquired";
export const ROUNDS = 3;
export const COLUMNS = TIME_COLUMNS;

export { method };

type Result = BesideC<ContenderInfo & HandOverFigures>;

export async function run(
  contenders: readonly Contender[],
  folder: string,
  { rounds, awake }: RunOptions,
): Promise<Measured<Result>> {
  const once = async (contender: Contender) =>
    (await pingPong(contender, freshPath(folder))).samples;
  const { results, failed } = await awakeIf(
    awake,
    folder,
    () => inRounds(contenders, rounds, once, summarizeHandOvers),
  );
  return {
    results: besideC(results, (one, c) => one.median / c.median),
    failed,
  };
}

export function thresholds(results: readonly Result[]): Threshold<Result>[] {
  const median = (name: string) =>
    results.find((result) => result.name === name)?.median ?? NaN;
  const ahead = (
    kind: string,
    other: string,
    atLeast: number,
    text: string,
  ): Threshold<Result> => ({
    kind,
    onlyWithFfi: true,
    text,
    figure: (ours) => median(other) / ours.median,
    atLeast,
    format: (value) => `${short(value)} times`,
  });
  return [
    withinTimesC("sync", 3),
    withinTimesC("infinite", 3),
    withinTimesC("async", 8),
    ahead("async", "fs-ext-async", 1, "ahead of fs-ext, a thread per waiter"),
    ahead(
      "async",
      "deno-fsfile-async",
      1,
      "ahead of Deno.FsFile, a thread per waiter",
    ),
    ahead("sync", "portalocker", 1000, "1,000 times ahead of portalocker"),
    ahead("async", "portalocker", 1000, "1,000 times ahead of portalocker"),
  ];
}
