/** The result: a table with one line per runtime, and the verdict. */

import { rate } from "./team.ts";
import type { Member } from "./team.ts";
import {
  bold,
  dim,
  green,
  number,
  red,
  terminalSize,
  widest,
} from "./terminal.ts";

const LONG_HEADER = ["", "increments", "per second", "longest wait"];
const SHORT_HEADER = ["", "done", "per s", "max wait"];
/** The columns of a terminal that fit the table with the long header. */
const MIN_COLUMNS = 65;

/** One line of the table. */
interface Total {
  readonly name: string;
  readonly done: number;
  readonly rate: number;
  /** Milliseconds. */
  readonly longestWait: number;
}

/** Formats the table. Without locks, it does not show waits. */
export function table(members: readonly Member[], locked: boolean): string {
  const header = terminalSize().columns < MIN_COLUMNS
    ? SHORT_HEADER
    : LONG_HEADER;
  const sum = together(members);
  const columns = locked ? 4 : 3;
  const first = header.slice(0, columns);
  const others = byRuntime(members).map((one) => cells(one).slice(0, columns));
  const last = cells(sum).slice(0, columns);
  const rows = [first, ...others, last];
  const widths = first.map((_, at) => widest(rows.map((row) => row[at] ?? "")));
  return [
    dim(line(first, widths)),
    ...others.map((row) => line(row, widths)),
    bold(line(last, widths)),
  ].join("\n");
}

function cells({ name, done, rate, longestWait }: Total): string[] {
  return [name, number(done), number(rate), `${number(longestWait, 1)} ms`];
}

function line(row: readonly string[], widths: readonly number[]): string {
  return row.map((text, at) =>
    at === 0 ? text.padEnd(widths[at] ?? 0) : text.padStart(widths[at] ?? 0)
  ).join("   ");
}

function byRuntime(members: readonly Member[]): Total[] {
  const totals = new Map<string, Total>();
  for (const member of members) {
    const { name } = member;
    const total = totals.get(name) ??
      { name, done: 0, rate: 0, longestWait: 0 };
    totals.set(name, {
      name,
      done: total.done + member.done,
      rate: total.rate + rate(member),
      longestWait: Math.max(total.longestWait, member.longestWait),
    });
  }
  return [...totals.values()];
}

/** The rate is not the sum of the rates, because workers finish one by one. */
function together(members: readonly Member[]): Total {
  const done = members.reduce((sum, member) => sum + member.done, 0);
  const seconds = Math.max(...members.map((member) => member.seconds));
  const longestWait = Math.max(...members.map((member) => member.longestWait));
  return { name: "Together", done, rate: rate({ done, seconds }), longestWait };
}

/** Formats the verdict on the number that the file contains at the end. */
export function verdict(expected: number, found: number): string {
  const sums = `Expected ${number(expected)}, found ${number(found)}: `;
  if (found === expected) return sums + green("exact");
  const lost = expected - found;
  const percent = number(100 * lost / expected, 1);
  return sums + red(`${number(lost)} lost (${percent} %)`);
}
