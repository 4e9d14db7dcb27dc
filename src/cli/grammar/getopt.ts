/**
 * Splits a command line as getopt_long(3) does with `+`, because flock(1) does:
 * the options end at the first other argument, which is FILE. All that
 * follows belongs to the program, whatever it looks like.
 *
 * `parseArgs` of `node:util` reads beyond FILE, does not know that `--time` is
 * `--timeout`, and on Deno it takes a third of the time in which the command
 * starts. The parsers of npm do the first two, too.
 *
 * @module
 */

import { usageError } from "../exit_status.ts";

/** An option. */
export interface Option {
  /** Long names. The first one is the key of the value. */
  readonly names: readonly [string, ...string[]];
  /** Letters. */
  readonly letters: readonly string[];
  /** What the value is, for the help. Absent if the option does not take one. */
  readonly value?: string;
  /** One line for the help. */
  readonly help: string;
  /** More, for the manual page. */
  readonly details?: string;
}

/** The parts of a command line. */
export interface CommandLine {
  /** The options in their order, by their first long name. */
  readonly options: readonly (readonly [name: string, value: string])[];
  /** What follows the options. */
  readonly rest: readonly string[];
}

/**
 * Splits a command line.
 *
 * @throws {UsageError} If an option is unknown, ambiguous, or lacks a value.
 */
export function getopt(
  args: readonly string[],
  known: readonly Option[],
): CommandLine {
  const options: [string, string][] = [];
  let next = 0;
  const valueAfter = (missing: string): string => {
    const value = args[next++];
    if (value === undefined) throw usageError(missing);
    return value;
  };

  function long(argument: string): void {
    const equals = argument.indexOf("=");
    const name = equals < 0 ? argument : argument.slice(0, equals);
    const { names: [key], full, value } = findLong(name, known);
    if (value === undefined) {
      if (equals >= 0) {
        throw usageError(`option '--${full}' doesn't allow an argument`);
      }
      options.push([key, ""]);
    } else {
      const text = equals >= 0
        ? argument.slice(equals + 1)
        : valueAfter(`option '--${full}' requires an argument`);
      options.push([key, text]);
    }
  }

  function short(letters: string): void {
    for (let at = 0; at < letters.length; at++) {
      const letter = letters[at]!;
      const option = known.find((option) => option.letters.includes(letter));
      if (!option) throw usageError(`invalid option -- '${letter}'`);
      const [key] = option.names;
      if (option.value === undefined) {
        options.push([key, ""]);
        continue;
      }
      const attached = letters.slice(at + 1);
      const value = attached === ""
        ? valueAfter(`option requires an argument -- '${letter}'`)
        : attached;
      options.push([key, value]);
      return;
    }
  }

  for (; next < args.length;) {
    const argument = args[next]!;
    if (!argument.startsWith("-") || argument === "-") break;
    next++;
    if (argument === "--") break;
    if (argument.startsWith("--")) long(argument.slice(2));
    else short(argument.slice(1));
  }
  return { options, rest: args.slice(next) };
}

/** Finds an option by its name, or by a prefix that only its names have. */
function findLong(
  name: string,
  known: readonly Option[],
): Option & { full: string } {
  const candidates = known.flatMap((option) =>
    option.names
      .filter((full) => full.startsWith(name))
      .map((full) => ({ ...option, full }))
  );
  const exact = candidates.find(({ full }) => full === name);
  const [first] = candidates;
  if (exact) return exact;
  if (first === undefined) {
    throw usageError(`unrecognized option '--${name}'`);
  }
  if (new Set(candidates.map(({ names: [key] }) => key)).size > 1) {
    const list = candidates.map(({ full }) => ` '--${full}'`).join("");
    throw usageError(
      `option '--${name}' is ambiguous; possibilities:${list}`,
    );
  }
  return first!;
}
