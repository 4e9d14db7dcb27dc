/** The help of the command, from the table of its options. */

import { DOCTOR_OPTIONS, OPTIONS, STATUS_OPTIONS } from "./options.ts";
import type { Information } from "./options.ts";
import type { Option } from "./getopt.ts";

/** The version of the package. A test compares it with deno.json. */
export const VERSION = "0.1.0";

const USAGE = `Runs a command while a lock is held.

  portalock backup.lock ./backup.sh        wait, then run it
  portalock -n backup.lock ./backup.sh     run it only if the lock is free
  portalock -w 30 backup.lock make all     wait for 30 seconds at most
  portalock -s data.lock -c 'cat data/*'   share the lock with other readers
  ( portalock -n 9 || exit; ... ) 9>lock   lock an open file of the shell

Usage: portalock [OPTIONS] FILE|DIRECTORY COMMAND [ARGUMENT...]
       portalock [OPTIONS] FILE|DIRECTORY -c 'SHELL LINE'
       portalock [OPTIONS] DESCRIPTOR
       portalock status [OPTIONS] FILE...
       portalock doctor [OPTIONS] PATH [PATH2]

`;

const STATUS_USAGE = `Shows what holds a lock, and what waits for it.

  portalock status nightly.lock            one file
  portalock status /run/lock               all locked files of a directory
  portalock status --redis URL report      a lock in Redis

Usage: portalock status [OPTIONS] FILE|DIRECTORY|NAME...

`;

const DOCTOR_USAGE = `Finds out whether a file system can lock.

  portalock doctor /srv/data               a directory, or a file in it
  portalock doctor /srv/data /mnt/data     two views of one directory

Usage: portalock doctor [OPTIONS] PATH [PATH2]

`;

/** Where the descriptions of the options begin. */
const COLUMN = 37;

/** Returns what `--help` or `--version` prints. */
export function informationText(what: Information): string {
  return what === "version"
    ? `portalock ${VERSION}\n`
    : USAGE + OPTIONS.map(optionLine).join("\n") + `

Exit status: that of the command; 1 (or -E) if the lock is not free in time,
64 usage, 65 cannot lock, 66 cannot open, 69 cannot execute, 71 system error,
128+N if signal N ended the command.
`;
}

/** Returns what `portalock status --help` prints. */
export function statusHelp(): string {
  return STATUS_USAGE + STATUS_OPTIONS.map(optionLine).join("\n") + "\n";
}

/** Returns what `portalock doctor --help` prints. */
export function doctorHelp(): string {
  return DOCTOR_USAGE + DOCTOR_OPTIONS.map(optionLine).join("\n") + `

Exit status: 0 if locks work there, 1 if they do not; 64 usage, 66 the path
cannot be tested, 73 no file can be created there, 71 system error.
`;
}

function optionLine({ names: [name], letters, value, help }: Option): string {
  const short = letters.map((letter) => `-${letter}, `).join("");
  const long = `--${name}${value === undefined ? "" : ` ${value}`}`;
  return `  ${short.padStart(8)}${long}`.padEnd(COLUMN) + help;
}
