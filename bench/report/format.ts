/** Figures as text. */

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function whole(value) {
  return grouped.format(value);
}

/** Three digits or a little more, whatever the size. */
export function short(value) {
  if (value === null || value === undefined) return "-";
  return value < 10
    ? value.toFixed(2)
    : value < 100
    ? value.toFixed(1)
    : whole(value);
}
