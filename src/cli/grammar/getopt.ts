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
  /** A few words for the help, which has little space, and for shells. */
  readonly help: string;
  /** Sentences for the manual page. By default, these are the words of the help. */
  readonly details?: string;
  /**
   * Whether flock(1) does not have it. Its name does not make a prefix ambiguous
   * that flock(1) understands.
   */
  readonly isAddition?: true;
  /** Whether the rest of the command line is not read, as with `--help`. */
  readonly isFinal?: true;
}

/** The parts of a command line. */
export interface CommandLine {
  /** The options in their order, by their first long name. */
  readonly options: readonly (readonly [name: string, value: string])[];
  /** What follows the options. */
  readonly rest: readonly string[];
}

/**
 * Splits a command line, up to an option that is final.
 *
 * @throws {UsageError} If an option is unknown, ambiguous, or lacks a value.
 */
export function getopt(
  args: readonly string[],
  known: readonly Option[],
): CommandLine {
  const options: [string, string][] = [];
  const reader = readOptions(args, known);
  for (;;) {
    const { done, value } = reader.next();
    if (done) return { options, rest: value };
    const [{ names: [name], isFinal }, text] = value;
    options.push([name, text]);
    if (isFinal) return { options, rest: [] };
  }
}

/** Yields each option with its value, and returns what follows them. */
function* readOptions(
  args: readonly string[],
  known: readonly Option[],
): Generator<readonly [Option, string], string[]> {
  const words = [...args];
  const valueAfter = (missing: string): string => {
    const value = words.shift();
    if (value === undefined) throw usageError(missing);
    return value;
  };
  for (;;) {
    const [word = ""] = words;
    if (!word.startsWith("-") || word === "-") return words;
    words.shift();
    if (word === "--") return words;
    if (word.startsWith("--")) yield readLong(word.slice(2));
    else yield* readLetters(word.slice(1));
  }

  function readLong(word: string): [Option, string] {
    const [, name, attached] = /^([^=]*)(?:=(.*))?$/s.exec(word)!;
    const { option, full } = findLong(name!, known);
    if (option.value !== undefined) {
      const missing = `option '--${full}' requires an argument`;
      return [option, attached ?? valueAfter(missing)];
    }
    if (attached === undefined) return [option, ""];
    throw usageError(`option '--${full}' doesn't allow an argument`);
  }

  function* readLetters(letters: string): Generator<[Option, string]> {
    for (const [at, letter] of [...letters].entries()) {
      const option = known.find((option) => option.letters.includes(letter));
      if (!option) throw usageError(`invalid option -- '${letter}'`);
      if (option.value === undefined) {
        yield [option, ""];
        continue;
      }
      const missing = `option requires an argument -- '${letter}'`;
      yield [option, letters.slice(at + 1) || valueAfter(missing)];
      return;
    }
  }
}

/** An option, and the name that a prefix stands for. */
interface LongOption {
  readonly option: Option;
  readonly full: string;
}

/** Finds an option by its name, or by a prefix that only its names have. */
function findLong(name: string, known: readonly Option[]): LongOption {
  const all = known.flatMap((option) =>
    option.names
      .filter((full) => full.startsWith(name))
      .map((full) => ({ option, full }))
  );
  const exact = all.find(({ full }) => full === name);
  if (exact) return exact;
  const original = all.filter(({ option }) => !option.isAddition);
  const candidates = original.length > 0 ? original : all;
  const [first] = candidates;
  if (first === undefined) {
    throw usageError(`unrecognized option '--${name}'`);
  }
  if (candidates.every(({ option }) => option === first.option)) return first;
  const list = candidates.map(({ full }) => ` '--${full}'`).join("");
  throw usageError(`option '--${name}' is ambiguous; possibilities:${list}`);
}
