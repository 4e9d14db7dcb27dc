/** The help of the command, from the tables of its options and subcommands. */

import { OPTIONS } from "./options.ts";
import type { Information } from "./options.ts";
import type { Option } from "./getopt.ts";
import { SUBCOMMANDS } from "./subcommands.ts";
import type { Subcommand, SubcommandName } from "./subcommands.ts";

/** The version of the package. A test compares it with deno.json. */
export const VERSION = "0.1.0";

/** A terminal of 24 lines shows all of it, and the prompt. */
const USAGE = `Runs a command while a lock is held.

  portalock backup.lock ./backup.sh        wait for the lock, then run it
  portalock -n backup.lock ./backup.sh     run it only if the lock is free
  portalock -s -w 9 data.lock -c 'cat *'   share it; wait for 9 s at most
  ( portalock -n 9 || exit; ... ) 9>lock   lock an open file of the shell

Usage: portalock [OPTIONS] FILE|DIRECTORY COMMAND [ARGUMENT...]|-c 'SHELL LINE'
       portalock [OPTIONS] DESCRIPTOR
       portalock ${Object.keys(SUBCOMMANDS).join("|")} --help

`;

const STATUSES = `\
Exit status: that of COMMAND; 1 if not free in time, 64 usage, 65 cannot lock,
66 cannot open, 69 cannot execute, 71 system, 128+N signal N. See portalock(1).
`;

/** The columns of the options of the command: names, then what they do. */
const NAME_WIDTH = 16;
const CELL_WIDTH = 38;
const SECOND_NAME_WIDTH = 21;

/** Where the descriptions of the examples of a subcommand begin. */
const EXAMPLE_WIDTH = 41;

/** Where the descriptions of its options begin. */
const COLUMN = 28;

/** Returns what `--help` or `--version` prints. */
export function informationText(what: Information): string {
  return what === "version"
    ? `portalock ${VERSION}\n`
    : USAGE + optionColumns() + STATUSES;
}

/** Returns what `--help` of a subcommand prints. */
export function subcommandHelp(name: SubcommandName): string {
  const { summary, examples, operands, options, statuses }: Subcommand =
    SUBCOMMANDS[name];
  const lines = [
    `${summary}.`,
    "",
    ...examples.map(([words, text]) =>
      `  portalock ${name} ${words}`.padEnd(EXAMPLE_WIDTH) + text
    ),
    "",
    `Usage: portalock ${name} [OPTIONS] ${operands}`,
    "",
    ...options.map(optionLine),
  ];
  if (statuses.length > 0) {
    lines.push(
      "",
      "Exit status:",
      ...statuses.map(([status, text]) => `  ${status.padStart(2)}  ${text}`),
    );
  }
  return `${lines.join("\n")}\n`;
}

/** Two options a line. */
function optionColumns(): string {
  const height = Math.ceil(OPTIONS.length / 2);
  return OPTIONS.slice(0, height).map((option, row) => {
    const second = OPTIONS[row + height];
    const left = shortName(option).padEnd(NAME_WIDTH) + option.help;
    const right = second === undefined
      ? ""
      : shortName(second).padEnd(SECOND_NAME_WIDTH) + second.help;
    return `  ${left.padEnd(CELL_WIDTH)}${right}`.trimEnd() + "\n";
  }).join("");
}

/** The letters of an option and its long name, or the letters if that is long. */
function shortName({ names: [name], letters, value }: Option): string {
  const short = letters.map((letter) => `-${letter}`);
  const argument = value === undefined ? "" : ` ${value}`;
  const all = [...short, `--${name}`].join(", ") + argument;
  return all.length < NAME_WIDTH || short.length === 0
    ? all
    : short.join(", ") + argument;
}

function optionLine({ names: [name], letters, value, help }: Option): string {
  const short = letters.map((letter) => `-${letter}, `).join("");
  const long = `--${name}${value === undefined ? "" : ` ${value}`}`;
  return `  ${short.padStart(4)}${long}`.padEnd(COLUMN) + help;
}
