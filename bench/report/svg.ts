/** Horizontal bars as SVG, for light and dark pages. */

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

/** A row of a chart. */
export interface Bar {
  readonly label: string;
  readonly value: number;
  /** Where the whisker ends, if the row has one. */
  readonly whisker?: number;
  readonly text: string;
  readonly ours?: boolean | undefined;
}

/** Maps values to 0 to 1. */
export interface Scale {
  at(value: number): number;
  readonly ticks: readonly { readonly value: number; readonly text: string }[];
}

export interface Chart {
  readonly title: string;
  /** What the chart shows, for screen readers. */
  readonly description: string;
  /** What the bars measure. */
  readonly axis: string;
  readonly rows: readonly Bar[];
  /** A value that a line marks. */
  readonly reference:
    | { readonly value: number; readonly label: string }
    | undefined;
  readonly scale: Scale;
  /** Lines below the chart. */
  readonly captions: readonly string[];
}

/** Draws a chart. */
export function bars(chart: Chart): string {
  const { title, description, axis, rows, reference, scale, captions } = chart;
  const bottom = TOP + rows.length * ROW + 6;
  const height = bottom + 24 + captions.length * 16;
  const x = (value: number) => round(LABELS + BARS * scale.at(value));
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

function bar(
  { label, value, whisker, text: words, ours }: Bar,
  y: number,
  x: (value: number) => number,
): string[] {
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

function text(
  x: number,
  y: number,
  words: string,
  style?: string,
  anchor?: string,
): string {
  return `<text x="${round(x)}" y="${y}"` +
    (style ? ` class="${style}"` : "") +
    (anchor ? ` text-anchor="${anchor}"` : "") +
    `>${escaped(words)}</text>`;
}

function line(
  x1: number,
  y1: number,
  x2: number,
  y2: number,
  style: string,
): string {
  return `<line class="${style}" x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}"/>`;
}

function round(value: number): number {
  return Number(value.toFixed(1));
}

function escaped(words: string): string {
  return words.replace(/[&<>]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}
