/**
 * This package, by the `mod` that the runner names. As all updaters it makes of
 * a path a function that changes the file there: given one that makes the new
 * text of the old, it waits for its turn and resolves when the file is written.
 * The same text leaves the file as it is.
 */

/** Whoever is slow is to be measured, not to fail. */
const TIMEOUT = 60_000;

export function make(path, { updateFile }, kind) {
  const options = { timeout: TIMEOUT, durable: kind === "durable" };
  return (change) => updateFile(path, change, options);
}
