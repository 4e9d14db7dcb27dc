/** Text for terminals and pipes: columns, colors, numbers. */

const { stdout, env } = globalThis.process;

/** Whether the output is a terminal whose cursor can be moved. */
export const interactive = stdout.isTTY === true && env.TERM !== "dumb";

const colored = interactive && !env.NO_COLOR;

export const bold = style(1, 22);
export const dim = style(2, 22);
export const red = style(31, 39);
export const green = style(32, 39);
export const cyan = style(36, 39);

function style(on: number, off: number): (text: string) => string {
  return (text) => colored ? `\x1b[${on}m${text}\x1b[${off}m` : text;
}

/** Returns the size of the terminal. A pseudo-terminal may report 0. */
export function terminalSize(): { columns: number; rows: number } {
  return { columns: stdout.columns || 80, rows: stdout.rows || 24 };
}

/** Formats a number with thousands separators. */
export function number(value: number, decimals = 0): string {
  return value.toLocaleString("en", {
    minimumFractionDigits: decimals,
    maximumFractionDigits: decimals,
  });
}

/** Returns the width of a column that fits these texts. */
export function widest(texts: readonly string[]): number {
  return Math.max(...texts.map((text) => text.length));
}
