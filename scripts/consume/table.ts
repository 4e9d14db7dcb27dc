/** The table in `docs/tools.md`, which lists what the rows check. */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../setup/install.mjs";
import { type Row, RUNTIMES } from "./row.ts";
import { rows } from "./rows/mod.ts";

const FILE = join(root, "docs", "tools.md");
const BEGIN = "<!-- Written by node scripts/consume.mjs --write-table -->";
const END = "<!-- End of the table -->";

/** Returns a problem if the table does not list exactly the rows. */
export function staleTable(): string[] {
  const text = readFileSync(FILE, "utf8");
  return text === withTable(text) ? [] : [
    "docs/tools.md does not list the rows of this stage: run " +
    "node scripts/consume.mjs --write-table",
  ];
}

export function writeTable(): void {
  writeFileSync(FILE, withTable(readFileSync(FILE, "utf8")));
}

/** Returns the document with the table of the rows. */
function withTable(text: string): string {
  const [start, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (start < 0 || end < 0) {
    throw new Error(`${FILE} does not have a place for a table`);
  }
  const before = text.slice(0, start + BEGIN.length);
  return `${before}\n\n${table()}\n\n${text.slice(end)}`;
}

/** Formats the rows as `deno fmt` formats a table. */
function table(): string {
  const lines = [
    ["tool", "setting", ...RUNTIMES],
    ...rows.map(line),
  ];
  const widths =
    lines[0]?.map((_, column) =>
      Math.max(...lines.map((line) => line[column]?.length ?? 0))
    ) ?? [];
  const format = (line: readonly string[]) =>
    `| ${line.map((text, i) => text.padEnd(widths[i] ?? 0)).join(" | ")} |`;
  const [head = [], ...body] = lines;
  const rule = widths.map((width) => "-".repeat(width));
  return [head, rule, ...body].map(format).join("\n");
}

function line(row: Row): string[] {
  const cell = (name: typeof RUNTIMES[number]) => {
    if (!row.runtimes.includes(name)) return "";
    return row.polls?.includes(name) ? "polls" : "works";
  };
  return [row.tool, row.setting, ...RUNTIMES.map(cell)];
}
