/** The results of a scenario as text. */

import { verdicts } from "./aims.mjs";

/**
 * @param scenario A module of `scenarios/`.
 * @param outcome What came of it: `results`, who `failed`, who is `missing`
 * for any reason, the `method` and how many `seconds` it took.
 */
export function report({ title, COLUMNS, aims }, outcome) {
  const { results, failed, method, seconds } = outcome;
  return [
    `${title} (${seconds} s)`,
    method,
    "",
    ...results.length > 0 ? [...table(COLUMNS, results), ""] : [],
    ...failed.length > 0 ? [...failed.map(complaint("FAILED")), ""] : [],
    ...aims(results).flatMap((aim) => verdicts(aim, outcome)),
  ].join("\n").trimEnd();
}

/** A line about somebody who has no results. */
export function complaint(word) {
  return ({ label, name, reason }) => `${word} ${label} (${name}): ${reason}`;
}

function table(columns, results) {
  const rows = [
    columns.map(({ title }) => title),
    ...results.map((result) => columns.map(({ cell }) => cell(result))),
  ];
  const widths = columns.map((_, i) =>
    Math.max(...rows.map((row) => row[i].length))
  );
  return rows.map((row) =>
    row.map((text, i) =>
      i === 0 ? text.padEnd(widths[i]) : text.padStart(widths[i])
    ).join("  ").trimEnd()
  );
}
