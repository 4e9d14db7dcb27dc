/** The subcommands: what main, the help, the manual page and shells know. */

import type { Option } from "./getopt.ts";
import { DOCTOR_OPTIONS, STATUS_OPTIONS } from "./options.ts";

/** The names of the subcommands. */
export type SubcommandName = "status" | "doctor" | "completion";

/** A subcommand. Its name may not be a FILE, which is written as `./status`. */
export interface Subcommand {
  /** What it does, in the third person, as a sentence without its period. */
  readonly summary: string;
  /** Command lines, and what they do. */
  readonly examples: readonly (readonly [words: string, text: string])[];
  /** What follows the options, for the help. */
  readonly operands: string;
  /** What shells complete it by: these words, or names of files. */
  readonly words?: readonly string[];
  readonly options: readonly Option[];
  readonly statuses: readonly (readonly [status: string, text: string])[];
}

/** The shells that complete command lines. */
export const SHELLS = ["bash", "zsh", "fish"] as const;

const HELP: Option = {
  names: ["help"],
  letters: ["h"],
  isFinal: true,
  help: "show this help",
};

/** The subcommands by name. */
export const SUBCOMMANDS: Readonly<Record<SubcommandName, Subcommand>> = {
  status: {
    summary: "Shows what holds a lock, and what waits for it",
    examples: [
      ["nightly.lock", "one file"],
      ["/run/lock", "all locked files of a directory"],
      ["--redis URL report", "a lock in Redis"],
    ],
    operands: "FILE|DIRECTORY|NAME...",
    options: STATUS_OPTIONS,
    statuses: [
      ["0", "The state is printed, whether the lock is held or not."],
      ["64", "The command line is wrong."],
      ["66", "A file does not exist, or cannot be read."],
      [
        "69",
        "Holders are not reported here, or Redis cannot be reached.",
      ],
    ],
  },
  doctor: {
    summary: "Finds out whether a file system can lock",
    examples: [
      ["/srv/data", "a directory, or a file in it"],
      ["/srv/data /mnt/data", "two views of one directory"],
    ],
    operands: "PATH [PATH2]",
    options: DOCTOR_OPTIONS,
    statuses: [
      ["0", "Locks work there."],
      ["1", "Locks do not work there."],
      ["64", "The command line is wrong."],
      ["66", "The path does not exist, or cannot be tested."],
      ["69", "The runtime cannot lock, or cannot start processes."],
      ["71", "The file system does not answer, or a system call fails."],
      ["73", "No file can be created there."],
    ],
  },
  completion: {
    summary: "Prints what makes a shell complete the command line",
    examples: [
      ["bash", "in ~/.bashrc: source <(...)"],
      ["zsh", "a file _portalock in a folder of $fpath"],
      ["fish", "portalock completion fish | source"],
    ],
    operands: SHELLS.join("|"),
    words: SHELLS,
    options: [HELP],
    statuses: [],
  },
};
