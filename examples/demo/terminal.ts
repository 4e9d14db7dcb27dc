/** Texts for terminals and pipes: columns, colours, numbers. */

const { stdout, env } = globalThis.process;

/** Whether the output is a terminal whose cursor can be moved. */
export const interactive = stdout.isTTY === true && env.TERM !== "dumb";

const coloured = interactive && !env.NO_COLOR;

export const bold = style(1, 22);
export const dim = style(2, 22);
export const red = style(31, 39);
export const green = style(32, 39);
export const cyan = style(36, 39);

function style(on, off) {
  return (text) => coloured ? `\x1b[${on}m${text}\x1b[${off}m` : text;
}

/** How many columns and rows there are. A pseudo-terminal may have size 0. */
export function terminalSize() {
  return { columns: stdout.columns || 80, rows: stdout.rows || 24 };
}

/** A number with at most so many decimals, and commas. */
export function number(value, decimals = 0) {
  return value.toLocaleString("en", {
    minimumFractionDigits: decimals,
    maximumFractionDigits: decimals,
  });
}

/** Increments per second, 0 before there are any. */
export function rate({ done, seconds }) {
  return seconds > 0 ? done / seconds : 0;
}

/** The width of a column that holds these texts. */
export function widest(texts) {
  return Math.max(...texts.map((text) => text.length));
}
