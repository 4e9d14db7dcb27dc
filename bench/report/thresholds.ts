/** Compares results with thresholds, in lines below a table. */

import type { ContenderInfo, Outcome, Threshold } from "../types.ts";

/**
 * Compares the worst of this package's results of one kind with a threshold.
 * Contenders without FFI have their own line, unless the threshold is
 * `onlyWithFfi`.
 */
export function verdicts<Result extends ContenderInfo>(
  threshold: Threshold<Result>,
  { results, missing }: Pick<Outcome<Result>, "results" | "missing">,
): string[] {
  return (threshold.onlyWithFfi ? [false] : [false, true])
    .flatMap((withoutFfi) => {
      const applies = (one: ContenderInfo) =>
        one.ours && one.kind === threshold.kind &&
        one.withoutFfi === withoutFfi;
      const measured = results.filter(applies);
      const unmeasured = missing.filter(applies);
      if (measured.length + unmeasured.length === 0) return [];
      const refuting = unmeasured.filter(({ reason }) =>
        threshold.refutedBy && reason.startsWith(threshold.refutedBy)
      );
      const absent = unmeasured.filter((one) => !refuting.includes(one))
        .map(({ name }) => name);
      const kind = `${threshold.kind}${withoutFfi ? " without FFI" : ""}`;
      const suffix = absent.length > 0
        ? `, not measured: ${[...new Set(absent)].join(", ")}`
        : "";
      const verdict = refuting.length > 0
        ? `NO (${refuting.map(({ name }) => name).join(", ")})`
        : compare(threshold, measured);
      return [`${kind} ${threshold.text}: ${verdict}${suffix}`];
    });
}

function compare<Result extends ContenderInfo>(
  { figure, atMost, atLeast, format }: Threshold<Result>,
  results: readonly Result[],
): string {
  const figures: { value: number; name: string }[] = [];
  for (const result of results) {
    const value = figure(result);
    if (value === null || Number.isNaN(value)) return "not known";
    figures.push({ value, name: nameOf(result) });
  }
  figures.sort((a, b) =>
    atMost === undefined ? a.value - b.value : b.value - a.value
  );
  const [worst] = figures;
  if (worst === undefined) return "not known";
  const passed = worst.value <= (atMost ?? Infinity) &&
    worst.value >= (atLeast ?? -Infinity);
  return `${passed ? "yes" : "NO"} (worst ${
    format(worst.value)
  }, ${worst.name})`;
}

/** A scenario may have several results per contender, in different forms. */
function nameOf(result: ContenderInfo & { form?: string }): string {
  return [result.name, result.form].filter(Boolean).join(" ");
}
