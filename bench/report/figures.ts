/** The figures of a run, as SVG. */

import type { Machine } from "../runner/machine.ts";
import type { ContenderInfo, Outcome } from "../types.ts";
import { short, whole } from "./format.ts";
import { bars } from "./svg.ts";
import type { Bar, Scale } from "./svg.ts";

/** Everything that a run measured. */
export interface RunResults {
  readonly machine: Machine;
  readonly scenarios: Readonly<Record<string, Outcome<ContenderInfo>>>;
}

/** What the figures need of the results of these scenarios. */
interface Drawable {
  handover: ContenderInfo & { median: number; p99: number };
  contention: ContenderInfo & { rate: number; share: number };
  "redis-uncontended": ContenderInfo & {
    both: { median: number };
    ping: { median: number };
  };
  "redis-handover": ContenderInfo & {
    median: number;
    pings: { pingAlone: number };
  };
}

const FIGURES: {
  readonly [Name in keyof Drawable]: (
    results: readonly Drawable[Name][],
    machine: Machine,
  ) => string;
} = {
  handover,
  contention,
  "redis-uncontended": redisUncontended,
  "redis-handover": redisHandover,
};

type FigureName = keyof Drawable;

/** The scenarios that have a figure. */
export const FIGURE_NAMES = Object.keys(FIGURES) as readonly FigureName[];

/** Draws the figure of a scenario, or returns `undefined` without results. */
export function figureOf(
  name: FigureName,
  { scenarios, machine }: RunResults,
): string | undefined {
  const results = scenarios[name]?.results ?? [];
  if (results.length === 0) return undefined;
  // Only the scenario of that name makes these results.
  const draw = FIGURES[name] as (
    results: readonly ContenderInfo[],
    machine: Machine,
  ) => string;
  return draw(results, machine);
}

/** Hand-over: medians on a logarithmic axis, p99 as whiskers. */
function handover(
  results: readonly Drawable["handover"][],
  machine: Machine,
): string {
  const values = results.flatMap(({ median, p99 }) => [median, p99]);
  const rows = results.filter(({ name }) => name !== "c").map((result) => ({
    label: result.label,
    value: result.median,
    whisker: result.p99,
    text: time(result.median),
    ours: result.ours,
  }));
  return bars({
    title: "From release in one process to acquired in another that waits",
    description: describeRows(rows),
    axis: "median; the whisker ends at p99; logarithmic, shorter is better",
    rows,
    reference: reference(results, ({ median }) => median, time),
    scale: logarithmic(Math.min(...values), Math.max(...values)),
    captions: captions(machine),
  });
}

/** Contention: sections per second, and how evenly processes acquired. */
function contention(
  results: readonly Drawable["contention"][],
  machine: Machine,
): string {
  const rows = results.filter(({ name }) => name !== "c").map((result) => ({
    label: result.label,
    value: result.rate,
    text: `${whole(result.rate)}, least/most ${result.share.toFixed(2)}`,
    ours: result.ours,
  }));
  return bars({
    title: "Four processes count in one file under one lock",
    description: describeRows(rows),
    axis: "additions per second of all four, longer is better; " +
      "least/most: of the four processes' counts",
    rows,
    reference: reference(results, ({ rate }) => rate, whole),
    scale: linear(Math.max(...results.map(({ rate }) => rate))),
    captions: captions(machine),
  });
}

/** Redis: acquire and release in multiples of PING. */
function redisUncontended(
  results: readonly Drawable["redis-uncontended"][],
  machine: Machine,
): string {
  return besidePing(
    results,
    machine,
    "A lock in Redis, acquire and release, uncontended",
    ({ both, ping }) => [both.median, ping.median],
  );
}

/** The hand-over in multiples of a PING after the same delay. */
function redisHandover(
  results: readonly Drawable["redis-handover"][],
  machine: Machine,
): string {
  return besidePing(
    results,
    machine,
    "A lock in Redis, from release in one process to acquired in another",
    ({ median, pings }) => [median, pings.pingAlone],
  );
}

/** `medians` returns that of a result and of the PING to compare it with. */
function besidePing<Result extends ContenderInfo>(
  results: readonly Result[],
  machine: Machine,
  title: string,
  medians: (result: Result) => [median: number, ping: number],
): string {
  const rows = results.map((result) => {
    const [median, ping] = medians(result);
    return {
      label: result.label,
      value: median / ping,
      text: `${time(median)}, ${short(median / ping)} times PING`,
      ours: result.ours,
    };
  });
  const most = Math.max(...rows.map(({ value }) => value));
  return bars({
    title,
    description: describeRows(rows),
    axis: "median, in multiples of PING by the same client library; " +
      "logarithmic, shorter is better",
    rows,
    reference: undefined,
    scale: logarithmic(1, most, String),
    captions: captions(machine, "Blue: this package. All from one run:"),
  });
}

function describeRows(rows: readonly Bar[]): string {
  return rows.map(({ label, text }) => `${label}: ${text}`).join("; ");
}

function reference<Result extends ContenderInfo>(
  results: readonly Result[],
  figure: (result: Result) => number,
  format: (figure: number) => string,
): { value: number; label: string } | undefined {
  const c = results.find(({ name }) => name === "c");
  return c && { value: figure(c), label: `C ${format(figure(c))}` };
}

function captions(
  { date, hardware, system, fileSystem, runtimes }: Machine,
  legend =
    "Blue: this package. Dashed: C with blocking flock(2). All from one run:",
): string[] {
  return [
    legend,
    `${date}, ${hardware}, ${system}, ${fileSystem}`,
    runtimes.join(", "),
  ];
}

/** Whole decades, from 1 up; of microseconds unless `format` is given. */
function logarithmic(
  least: number,
  most: number,
  format: (value: number) => string = (value) => time(value, String),
): Scale {
  const first = Math.min(0, Math.floor(Math.log10(least)));
  const last = Math.max(first + 1, Math.ceil(Math.log10(most)));
  return {
    at: (value) => (Math.log10(value) - first) / (last - first),
    ticks: Array.from({ length: last - first + 1 }, (_, i) => {
      const value = 10 ** (first + i);
      return { value, text: format(value) };
    }),
  };
}

function linear(most: number): Scale {
  const decade = 10 ** Math.floor(Math.log10(most));
  const step = ([1, 2, 5].map((n) => n * decade)
    .find((one) => most / one <= 5) ?? 10 * decade) / 2;
  const count = Math.ceil(most / step);
  return {
    at: (value) => value / (count * step),
    ticks: Array.from({ length: count + 1 }, (_, i) => ({
      value: i * step,
      text: whole(i * step),
    })),
  };
}

/** Formats microseconds in the unit that fits. */
function time(
  microseconds: number,
  format: (value: number) => string = short,
): string {
  if (microseconds < 1000) return `${format(microseconds)} µs`;
  if (microseconds < 1e6) return `${format(microseconds / 1000)} ms`;
  return `${format(microseconds / 1e6)} s`;
}
