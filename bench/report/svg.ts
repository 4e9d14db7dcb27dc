/** Horizontal bars as SVG that reads well on light and on dark pages. */

const WIDTH = 860;
const LABELS = 300;
const BARS = 430;
const ROW = 22;
const TOP = 64;

const STYLE = `
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 }
  .faint { fill: #59636e; font-size: 11px }
  .ours { fill: #0969da }
  .other { fill: #afb8c1 }
  .grid { stroke: #d1d9e0; stroke-width: 1 }
  .whisker { stroke: #59636e; stroke-width: 1; fill: none }
  .reference { stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 4 3 }
  text.reference { stroke: none; fill: #cf222e }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .faint { fill: #9198a1 }
    .ours { fill: #4493f8 }
    .other { fill: #656c76 }
    .grid { stroke: #3d444d }
    .whisker { stroke: #9198a1 }
    .reference { stroke: #ff7b72 }
    text.reference { fill: #ff7b72 }
  }
`;

/**
 * @param chart `title`; `description` for those who cannot see it; `axis`, what
 * is drawn; `rows` with `label`, `value`, `text`, whether it is `ours`, and
 * perhaps the end of a `whisker`; a `reference`, value and label; the `scale`,
 * which maps values to 0 to 1, with its `ticks`, value and text; `captions`,
 * lines below.
 */
export function bars(chart) {
  const { title, description, axis, rows, reference, scale, captions } = chart;
  const bottom = TOP + rows.length * ROW + 6;
  const height = bottom + 24 + captions.length * 16;
  const x = (value) => round(LABELS + BARS * scale.at(value));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" ` +
    `width="${WIDTH}" height="${height}" role="img" aria-labelledby="t d">`,
    `<title id="t">${escaped(title)}</title>`,
    `<desc id="d">${escaped(description)}</desc>`,
    `<style>${STYLE}</style>`,
    text(8, 20, title, "title"),
    text(8, 38, axis, "faint"),
    ...scale.ticks.flatMap(({ value, text: words }) => [
      line(x(value), TOP, x(value), bottom, "grid"),
      text(x(value), bottom + 14, words, "faint", "middle"),
    ]),
    ...rows.flatMap((row, i) => bar(row, TOP + i * ROW, x)),
    ...reference
      ? [
        line(
          x(reference.value),
          TOP - 6,
          x(reference.value),
          bottom,
          "reference",
        ),
        text(
          x(reference.value),
          TOP - 10,
          reference.label,
          "reference",
          "middle",
        ),
      ]
      : [],
    ...captions.map((words, i) =>
      text(8, bottom + 36 + i * 16, words, "faint")
    ),
    "</svg>\n",
  ].join("\n");
}

function bar({ label, value, whisker, text: words, ours }, y, x) {
  const middle = y + ROW / 2;
  const end = Math.max(x(value), x(whisker ?? value));
  return [
    text(LABELS - 8, middle + 4, label, undefined, "end"),
    `<rect class="${ours ? "ours" : "other"}" x="${LABELS}" y="${y + 4}" ` +
    `width="${round(Math.max(1, x(value) - LABELS))}" height="${ROW - 8}"/>`,
    ...whisker === undefined ? [] : [
      `<path class="whisker" d="M${x(value)} ${middle}H${x(whisker)}` +
      `M${x(whisker)} ${middle - 4}v8"/>`,
    ],
    text(end + 6, middle + 4, words, "faint"),
  ];
}

function text(x, y, words, style, anchor) {
  return `<text x="${round(x)}" y="${y}"` +
    (style ? ` class="${style}"` : "") +
    (anchor ? ` text-anchor="${anchor}"` : "") +
    `>${escaped(words)}</text>`;
}

function line(x1, y1, x2, y2, style) {
  return `<line class="${style}" x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}"/>`;
}

function round(value) {
  return Number(value.toFixed(1));
}

function escaped(words) {
  return words.replace(/[&<>]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}
