/** The results of a scenario as text. */

import type {
  Column,
  ContenderInfo,
  Outcome,
  Scenario,
  Unmeasured,
} from "../types.ts";
import { verdicts } from "./thresholds.ts";

/** Formats the outcome of a scenario. */
export function report<Result extends ContenderInfo>(
  { title, COLUMNS, thresholds }: Scenario<Result>,
  outcome: Outcome<Result>,
): string {
  const { results, failed, method, seconds } = outcome;
  return [
    `${title} (${seconds} s)`,
    method,
    "",
    ...results.length > 0 ? [...table(COLUMNS, results), ""] : [],
    ...failed.length > 0
      ? [...failed.map((one) => describeUnmeasured("FAILED", one)), ""]
      : [],
    ...thresholds(results).flatMap((one) => verdicts(one, outcome)),
  ].join("\n").trimEnd();
}

/** Formats the line for a contender without results. */
export function describeUnmeasured(
  word: "FAILED" | "SKIPPED",
  { label, name, reason }: Unmeasured,
): string {
  return `${word} ${label} (${name}): ${reason}`;
}

/** Formats the lines of a table. */
export function table<Result>(
  columns: readonly Column<Result>[],
  results: readonly Result[],
): string[] {
  const rows = [
    columns.map(({ title }) => title),
    ...results.map((result) => columns.map((column) => column.cell(result))),
  ];
  const widths = columns.map((_, i) =>
    Math.max(...rows.map((row) => row[i]?.length ?? 0))
  );
  return rows.map((row) =>
    row.map((text, i) =>
      i === 0 ? text.padEnd(widths[i] ?? 0) : text.padStart(widths[i] ?? 0)
    ).join("  ").trimEnd()
  );
}
