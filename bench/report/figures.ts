/** Pictures of a run. */

import { short, whole } from "./format.mjs";
import { bars } from "./svg.mjs";

/** What the pictures show, by scenario, to those who cannot see them. */
export const FIGURES = {
  handover,
  contention,
  "redis-uncontended": redisUncontended,
  "redis-handover": redisHandover,
};

/** Hand-over: medians on a logarithmic axis, p99 as whiskers. */
function handover({ results }, machine) {
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
    description: described(rows),
    axis: "median; the whisker ends at p99; logarithmic, shorter is better",
    rows,
    reference: reference(results, ({ median }) => median, time),
    scale: logarithmic(Math.min(...values), Math.max(...values)),
    captions: captions(machine),
  });
}

/** Contention: sections per second, and how they are shared. */
function contention({ results }, machine) {
  const rows = results.filter(({ name }) => name !== "c").map((result) => ({
    label: result.label,
    value: result.rate,
    text: `${whole(result.rate)}, least/most ${result.share.toFixed(2)}`,
    ours: result.ours,
  }));
  return bars({
    title: "Four processes count in one file under one lock",
    description: described(rows),
    axis: "additions per second of all four, longer is better; " +
      "least/most: how evenly they got their turn",
    rows,
    reference: reference(results, ({ rate }) => rate, whole),
    scale: linear(Math.max(...results.map(({ rate }) => rate))),
    captions: captions(machine),
  });
}

/** Redis: acquire and release in multiples of PING. */
function redisUncontended({ results }, machine) {
  return besidePing(
    results,
    machine,
    "A lock in Redis, acquire and release, nobody else there",
    ({ both, ping }) => [both, ping].map(({ median }) => median),
  );
}

/** The hand-over in multiples of as cold a PING. */
function redisHandover({ results }, machine) {
  return besidePing(
    results,
    machine,
    "A lock in Redis, from release in one process to acquired in another",
    ({ median, pings }) => [median, pings.pingAlone],
  );
}

/** `medians` gives that of a result and of the PING it is compared with. */
function besidePing(results, machine, title, medians) {
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
    description: described(rows),
    axis: "median, in multiples of PING by the same client library; " +
      "logarithmic, shorter is better",
    rows,
    reference: undefined,
    scale: logarithmic(1, most, String),
    captions: captions(machine, "Blue: this package. All from one run:"),
  });
}

function described(rows) {
  return rows.map(({ label, text }) => `${label}: ${text}`).join("; ");
}

function reference(results, figure, shown) {
  const c = results.find(({ name }) => name === "c");
  return c && { value: figure(c), label: `C ${shown(figure(c))}` };
}

function captions(
  { date, hardware, system, fileSystem, runtimes },
  legend =
    "Blue: this package. Dashed: C with blocking flock(2). All from one run:",
) {
  return [
    legend,
    `${date}, ${hardware}, ${system}, ${fileSystem}`,
    runtimes.join(", "),
  ];
}

/** Whole decades, from 1 on; of microseconds unless shown otherwise. */
function logarithmic(least, most, shown = (value) => time(value, String)) {
  const first = Math.min(0, Math.floor(Math.log10(least)));
  const last = Math.max(first + 1, Math.ceil(Math.log10(most)));
  return {
    at: (value) => (Math.log10(value) - first) / (last - first),
    ticks: Array.from({ length: last - first + 1 }, (_, i) => {
      const value = 10 ** (first + i);
      return { value, text: shown(value) };
    }),
  };
}

function linear(most) {
  const step = [1, 2, 5, 10].map((n) => n * 10 ** Math.floor(Math.log10(most)))
    .find((one) => most / one <= 5) / 2;
  const count = Math.ceil(most / step);
  return {
    at: (value) => value / (count * step),
    ticks: Array.from({ length: count + 1 }, (_, i) => ({
      value: i * step,
      text: whole(i * step),
    })),
  };
}

/** Microseconds in the unit that suits them. */
function time(microseconds, shown = short) {
  if (microseconds < 1000) return `${shown(microseconds)} µs`;
  if (microseconds < 1e6) return `${shown(microseconds / 1000)} ms`;
  return `${shown(microseconds / 1e6)} s`;
}
