/** What is held against an aim, as lines under a table. */

/**
 * Holds the worst of this package's results of one kind against a bound. Those
 * without FFI have a line of their own, unless the aim is `onlyWithFfi`.
 *
 * @param aim `kind` and `text` name it; `figure` gives the figure of a result,
 * `null` if it is not known; `most` or `least` is the bound; `shown` formats;
 * who failed for the reason `refutedBy`, if there is one, missed the aim.
 * @param outcome The results, and who of the contenders is missing.
 */
export function verdicts(aim, { results, missing }) {
  return (aim.onlyWithFfi ? [false] : [false, true]).flatMap((withoutFfi) => {
    const meant = (one) =>
      one.ours && one.kind === aim.kind && one.withoutFfi === withoutFfi;
    const measured = results.filter(meant);
    const unmeasured = missing.filter(meant);
    if (measured.length + unmeasured.length === 0) return [];
    const refuting = unmeasured.filter(({ reason }) =>
      aim.refutedBy && reason.startsWith(aim.refutedBy)
    );
    const absent = unmeasured.filter((one) => !refuting.includes(one))
      .map(({ name }) => name);
    const kind = `${aim.kind}${withoutFfi ? " without FFI" : ""}`;
    const also = absent.length > 0
      ? `, not measured: ${[...new Set(absent)].join(", ")}`
      : "";
    const said = refuting.length > 0
      ? `NO (${refuting.map(({ name }) => name).join(", ")})`
      : answer(aim, measured);
    return [`${kind} ${aim.text}: ${said}${also}`];
  });
}

function answer({ figure, most, least, shown }, results) {
  const figures = results.map((result) => ({
    value: figure(result),
    name: [result.name, result.form].filter(Boolean).join(" "),
  }));
  if (figures.length === 0) return "not known";
  if (figures.some(({ value }) => value === null || Number.isNaN(value))) {
    return "not known";
  }
  figures.sort((a, b) =>
    most === undefined ? a.value - b.value : b.value - a.value
  );
  const [worst] = figures;
  const reached = worst.value <= (most ?? Infinity) &&
    worst.value >= (least ?? -Infinity);
  return `${reached ? "yes" : "NO"} (worst ${
    shown(worst.value)
  }, ${worst.name})`;
}
