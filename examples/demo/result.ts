/** What came of it: a table with a line per runtime, and the verdict. */

import {
  bold,
  dim,
  green,
  number,
  rate,
  red,
  terminalSize,
  widest,
} from "./text.mjs";

const LONG_HEADER = ["", "increments", "per second", "longest wait"];
const SHORT_HEADER = ["", "done", "per s", "max wait"];
/** So many columns hold a table with the long header. */
const WIDE = 65;

/** The table. Without locks there is no wait to show. */
export function table(members, locked) {
  const header = terminalSize().columns < WIDE ? SHORT_HEADER : LONG_HEADER;
  const rows = [...byRuntime(members), together(members)].map((total) => [
    total.name,
    number(total.done),
    number(total.rate),
    `${number(total.longestWait, 1)} ms`,
  ]);
  const columns = locked ? 4 : 3;
  const texts = [header, ...rows].map((row) => row.slice(0, columns));
  const widths = texts[0].map((_, at) => widest(texts.map((row) => row[at])));
  const [first, ...others] = texts.map((row) => line(row, widths));
  const last = others.pop();
  return [dim(first), ...others, bold(last)].join("\n");
}

function line([name, ...numbers], [width, ...widths]) {
  return [
    name.padEnd(width),
    ...numbers.map((text, at) => text.padStart(widths[at])),
  ].join("   ");
}

function byRuntime(members) {
  const totals = new Map();
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
  return totals.values();
}

/** Not the sum of the rates: some workers finish before others. */
function together(members) {
  const done = members.reduce((sum, member) => sum + member.done, 0);
  const seconds = Math.max(...members.map((member) => member.seconds));
  const longestWait = Math.max(...members.map((member) => member.longestWait));
  return { name: "Together", done, rate: rate({ done, seconds }), longestWait };
}

/** The verdict on the number that the file holds in the end. */
export function verdict(expected, found) {
  const sums = `Expected ${number(expected)}, found ${number(found)}: `;
  if (found === expected) return sums + green("exact");
  const lost = expected - found;
  const percent = number(100 * lost / expected, 1);
  return sums + red(`${number(lost)} lost (${percent} %)`);
}
