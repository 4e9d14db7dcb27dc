/** What the commands of this repository have in common. */

import process from "node:process";

/**
 * Runs a command. Options that cannot be understood end it with status 2
 * before anything starts, and an error with status 1.
 *
 * @param name What messages begin with.
 * @param options The `USAGE` of the command, and `parseOptions`.
 * @param body Does the work and returns whether it went well.
 */
export async function command(name, { USAGE, parseOptions }, body) {
  process.exitCode = 2;
  try {
    const options = parseOptions(process.argv.slice(2));
    process.exitCode = 1;
    if (options.help) console.log(USAGE.trimEnd());
    if (options.help || await body(options)) process.exitCode = 0;
  } catch (error) {
    console.error(`${name}: ${error.message}`);
  }
}

/** @throws {RangeError} If the text is no whole number from 1 to `most`. */
export function wholeNumber(option, text, most) {
  if (/^[1-9]\d{0,8}$/.test(text) && Number(text) <= most) return Number(text);
  throw new RangeError(
    `${option} takes a whole number from 1 to ${most}, not "${text}"`,
  );
}
