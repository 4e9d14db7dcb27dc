/** Figures as text. */

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** Formats a figure without decimals. */
export function whole(value: number): string {
  return grouped.format(value);
}

/** Formats a figure with three digits, or with all digits before the point. */
export function short(value: number | null | undefined): string {
  if (value === null || value === undefined) return "-";
  return value < 10
    ? value.toFixed(2)
    : value < 100
    ? value.toFixed(1)
    : whole(value);
}
