/** The results as text. */

/** How many times what C takes each kind of ours may take. */
const AIMS = { sync: 2, async: 10 };

const COLUMNS = [
  { title: "", cell: ({ label }) => label },
  { title: "median µs", cell: ({ median }) => time(median) },
  { title: "p99 µs", cell: ({ p99 }) => time(p99) },
  { title: "times C", cell: ({ timesC }) => ratio(timesC) },
  {
    title: "median by round",
    cell: ({ lowestMedian, highestMedian }) =>
      `${time(lowestMedian)} to ${time(highestMedian)}`,
  },
  { title: "samples", cell: ({ count }) => String(count) },
];

/** Everything that the benchmark prints at its end. */
export function report(facts, results, skipped) {
  return [
    "Acquire and release, nobody else there",
    ...facts,
    "",
    ...table(results),
    ...skipped.length > 0 ? [""] : [],
    ...skipped.map(({ label, name, reason }) =>
      `SKIPPED ${label} (${name}): ${reason}`
    ),
    ...results.some(({ name }) => name === "c") ? [] : [
      "",
      "C was not measured, so the ratios are to nothing",
    ],
    "",
    ...Object.keys(AIMS).flatMap((aim) => verdicts(aim, results, skipped)),
  ].join("\n");
}

function table(results) {
  const rows = [
    COLUMNS.map(({ title }) => title),
    ...results.map((result) => COLUMNS.map(({ cell }) => cell(result))),
  ];
  const widths = COLUMNS.map((_, i) =>
    Math.max(...rows.map((row) => row[i].length))
  );
  return rows.map((row) =>
    row.map((text, i) =>
      i === 0 ? text.padEnd(widths[i]) : text.padStart(widths[i])
    ).join("  ").trimEnd()
  );
}

/** A line for an aim, and one for those who lack FFI. */
function verdicts(aim, results, skipped) {
  const missing = skipped.filter(({ ours, name }) =>
    ours && name.endsWith(`-${aim}`)
  ).map(({ name }) => name);
  const lines = [aim, `${aim} without FFI`].map((kind) =>
    verdict(kind, AIMS[aim], results)
  );
  if (missing.length > 0) lines[0] += `, not measured: ${missing.join(", ")}`;
  return lines;
}

function verdict(kind, factor, results) {
  const [worst] = results.filter(({ aim, timesC }) => aim === kind && timesC)
    .sort((a, b) => b.timesC - a.timesC);
  const answer = worst === undefined
    ? "not known"
    : `${worst.timesC <= factor ? "yes" : "no"} ` +
      `(worst ${ratio(worst.timesC)}, ${worst.name})`;
  return `${kind} within ${factor} times C: ${answer}`;
}

function time(microseconds) {
  return microseconds < 100 ? microseconds.toFixed(2) : microseconds.toFixed(0);
}

function ratio(timesC) {
  return timesC === null ? "-" : timesC.toFixed(timesC < 10 ? 2 : 1);
}
