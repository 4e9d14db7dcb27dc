/**
 * Runs the scenarios in which two processes hand one lock back and forth. While
 * one process holds the lock, the other reports that it is about to acquire it,
 * and waits. After a random delay the runner makes the holder release. The
 * sample is the time from just before the release to just after the acquire of
 * the other process. Then the two change roles.
 *
 * The delay makes the release fall at any time within the pause of a contender
 * that polls. For a contender that is notified, the delay is 2 to 5 ms, but up
 * to 300 ms for one release in fifty, in case a longer wait makes it slower.
 */

import { cpus } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { compileC } from "../contenders/peers.ts";
import type { Command, Contender, RunOptions } from "../types.ts";
import { start } from "./child_process.ts";
import type { Child } from "./child_process.ts";
import { quantileOf } from "./histogram.ts";
import { shuffled } from "./rounds.ts";

/** Per round. A contender that polls gets as many as fit into the time. */
const SAMPLES = 150;
/** Without a delay, until the compilers have optimized the code. */
const WARM_UP = 1_500;
const POLLING_TIME_MS = 3_000;
const TIMEOUT_MS = 90_000;
/** The longest that a timer can wait. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

const MIN_DELAY_MS = 2;
const SHORT_DELAY_MS = 5;
const LONG_DELAY_MS = 300;
/** How many of the delays may be long. */
const LONG_DELAYS = 1 / 50;

/** What one of the two processes reports. Times are in microseconds. */
export interface HandOverTimes {
  readonly acquired: readonly number[];
  readonly released: readonly number[];
  /** What the holder measured meanwhile, by command. */
  readonly pings?: readonly {
    readonly name: string;
    readonly taken: readonly number[];
  }[];
}

/** What {@linkcode summarizeHandOvers} makes of all rounds, in microseconds. */
export interface HandOverFigures {
  readonly median: number;
  readonly p99: number;
  readonly lowestMedian: number;
  readonly highestMedian: number;
  readonly count: number;
  readonly samples: readonly number[];
}

/**
 * Runs two processes that hand a lock back and forth.
 *
 * @param path What to lock.
 * @param betweenSamples Runs before each delay, while the other process waits,
 * with the holder and the number of samples so far.
 * @returns The `samples` in microseconds, ascending, and what both processes
 * `reported`.
 */
export async function pingPong(
  { command, pollInterval }: Pick<Contender, "command" | "pollInterval">,
  path: string,
  betweenSamples: (holder: Child, samples: number) => Promise<void> | void =
    () => {},
): Promise<{ samples: number[]; reported: [HandOverTimes, HandOverTimes] }> {
  const pair = new HandOverPair(command, path);
  try {
    let last = performance.now() + POLLING_TIME_MS;
    await pair.begin();
    const skipped = pollInterval ? 0 : WARM_UP;
    do {
      await pair.handOver(async (holder) => {
        if (pair.count < skipped) return;
        const start = performance.now();
        await betweenSamples(holder, pair.count - skipped);
        last += performance.now() - start;
        await sleep(releaseDelay(pollInterval));
      });
    } while (
      pair.count < WARM_UP + SAMPLES &&
      (!pollInterval || performance.now() < last)
    );
    const { times, reported } = await pair.end();
    return { samples: times.slice(skipped).sort((a, b) => a - b), reported };
  } finally {
    pair.kill();
  }
}

/**
 * Runs two pairs of processes whose hand-overs alternate, so that other load on
 * the machine affects both alike.
 *
 * @param paths What each pair locks.
 * @returns The samples of each pair in microseconds, ascending.
 */
export async function alternatePairs(
  commands: readonly [Command, Command],
  paths: readonly [string, string],
): Promise<[number[], number[]]> {
  const pairs = [
    new HandOverPair(commands[0], paths[0]),
    new HandOverPair(commands[1], paths[1]),
  ] as const;
  try {
    for (const pair of pairs) await pair.begin();
    for (let i = 0; i < WARM_UP + SAMPLES; i++) {
      const delay = i < WARM_UP ? undefined : () => sleep(releaseDelay());
      for (const pair of shuffled(pairs)) await pair.handOver(delay);
    }
    const [first, second] = await Promise.all([pairs[0].end(), pairs[1].end()]);
    const samples = ({ times }: { times: number[] }) =>
      times.slice(WARM_UP).sort((a, b) => a - b);
    return [samples(first), samples(second)];
  } finally {
    for (const pair of pairs) pair.kill();
  }
}

/** Two processes that hand one lock back and forth. */
class HandOverPair {
  readonly #children: readonly [Child, Child];
  #count = 0;

  constructor(command: Command, path: string) {
    const startOne = () => start(command, ["handover", path], TIMEOUT_MS);
    this.#children = [startOne(), startOne()];
  }

  /** The number of hand-overs so far. */
  get count(): number {
    return this.#count;
  }

  /** Resolves when one process holds the lock. */
  async begin(): Promise<void> {
    for (const child of this.#children) await child.receive();
    const [holder] = this.#children;
    await beginAcquire(holder);
    await holder.receive();
  }

  /**
   * Hands the lock over to the other process.
   *
   * @param beforeRelease Runs with the holder while the other process waits.
   */
  async handOver(
    beforeRelease?: (holder: Child) => Promise<unknown>,
  ): Promise<void> {
    const [holder, waiter] = this.#inRoles();
    await beginAcquire(waiter);
    await beforeRelease?.(holder);
    holder.send("release");
    await waiter.receive();
    this.#count++;
  }

  /** Resolves to the time of each hand-over, and what the processes report. */
  async end(): Promise<
    { times: number[]; reported: [HandOverTimes, HandOverTimes] }
  > {
    const [holder] = this.#inRoles();
    holder.send("release");
    const [first, second] = this.#children;
    const reported = await Promise.all([
      first.end<HandOverTimes>(),
      second.end<HandOverTimes>(),
    ]);
    return { times: differences(reported, this.#count), reported };
  }

  kill(): void {
    for (const child of this.#children) child.kill();
  }

  /** After each hand-over, the processes change roles. */
  #inRoles(): [holder: Child, waiter: Child] {
    const [first, second] = this.#children;
    return this.#count % 2 === 0 ? [first, second] : [second, first];
  }
}

/** Runs `body` while the processors are kept awake, if that is wanted. */
export async function awakeIf<Result>(
  wanted: boolean,
  folder: string,
  body: () => Promise<Result>,
): Promise<Result> {
  const spinners = wanted ? await keepAwake(folder) : [];
  const result = await body();
  for (const spinner of spinners) await spinner.end();
  return result;
}

/** Says how it was measured. */
export function method(
  { rounds, awake }: Pick<RunOptions, "rounds" | "awake">,
): string {
  return `rounds: ${rounds}, in each two processes per contender, with ` +
    `${WARM_UP} hand-overs to warm up and ${SAMPLES} measured, or as many as ` +
    `fit into ${POLLING_TIME_MS / 1000} s if the contender polls; idle ` +
    `processors ${awake ? "are kept awake" : "sleep"}`;
}

/** Makes one result of the samples of all rounds. */
export function summarizeHandOvers(
  rounds: readonly (readonly number[])[],
): HandOverFigures {
  const all = rounds.flat().sort((a, b) => a - b);
  const medians = rounds.map((round) => quantileOf(round, 0.5));
  return {
    median: quantileOf(all, 0.5),
    p99: quantileOf(all, 0.99),
    lowestMedian: Math.min(...medians),
    highestMedian: Math.max(...medians),
    count: all.length,
    samples: all.map((sample) => Number(sample.toFixed(3))),
  };
}

/** Returns a random delay before a release, in milliseconds. */
export function releaseDelay(pollInterval?: number): number {
  const longest = pollInterval ??
    (Math.random() < LONG_DELAYS ? LONG_DELAY_MS : SHORT_DELAY_MS);
  return MIN_DELAY_MS + Math.random() * (longest - MIN_DELAY_MS);
}

/** Resolves when the child is about to wait. */
export async function beginAcquire(child: Child): Promise<void> {
  child.send("acquire");
  await child.receive();
}

/** Returns the time of each hand-over, in microseconds. */
function differences(
  reported: readonly [HandOverTimes, HandOverTimes],
  handOvers: number,
): number[] {
  const result = Array.from({ length: handOvers }, (_, i) => {
    const [from, to] = i % 2 === 0 ? reported : [reported[1], reported[0]];
    const released = from.released[i >> 1] ?? NaN;
    const acquired = to.acquired[(i + 1) >> 1] ?? NaN;
    return acquired - released;
  });
  if (result.length > 0 && result.every((sample) => sample > 0)) return result;
  throw new Error("two processes held the lock at once, or the clocks differ");
}

/** Starts a process per processor that spins while the processor is idle. */
async function keepAwake(folder: string): Promise<Child[]> {
  const program = compileC(folder);
  if (program === undefined) {
    throw new Error("Cannot use --awake: there is no C compiler");
  }
  const command: Command = [program];
  const spinners = cpus().map(() => start(command, ["awake"], MAX_TIMEOUT_MS));
  for (const spinner of spinners) await spinner.receive();
  return spinners;
}
