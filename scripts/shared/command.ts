/** The command line of the scripts. */

import process from "node:process";

/** How a command reads its arguments. */
export interface CommandLine<Options> {
  USAGE: string;
  /** @throws {Error} If an argument is not an option or has a wrong value. */
  parseOptions(args: string[]): Options;
}

/**
 * Runs a command. Sets the exit status to 2 if the options are wrong, before
 * anything starts, and to 1 if the command fails.
 *
 * @param name The first word of error messages.
 * @param body Runs the command; returns whether it succeeded.
 */
export async function command<Options extends { help?: boolean }>(
  name: string,
  { USAGE, parseOptions }: CommandLine<Options>,
  body: (options: Options) => boolean | Promise<boolean>,
): Promise<void> {
  process.exitCode = 2;
  try {
    const options = parseOptions(process.argv.slice(2));
    process.exitCode = 1;
    if (options.help) console.log(USAGE.trimEnd());
    if (options.help || await body(options)) process.exitCode = 0;
  } catch (error) {
    console.error(`${name}: ${error instanceof Error ? error.message : error}`);
  }
}

/** @throws {RangeError} If the text is not an integer from 1 to `max`. */
export function wholeNumber(option: string, text: string, max: number): number {
  if (/^[1-9]\d{0,8}$/.test(text) && Number(text) <= max) return Number(text);
  throw new RangeError(
    `${option} must be an integer from 1 to ${max}, not "${text}"`,
  );
}
