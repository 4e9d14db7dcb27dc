/** The manual page, from the table of the options. The build writes it. */

import { DOCTOR_OPTIONS, OPTIONS, STATUS_OPTIONS } from "./options.ts";
import type { Option } from "./getopt.ts";
import { VERSION } from "./help.ts";

/** Escapes text for troff. */
function escape(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-")
    .replace(/^(['.])/, "\\&$1");
}

function entry({ names, letters, value, help, details }: Option): string {
  const words = [
    ...letters.map((letter) => `-${letter}`),
    ...names.map((name) => `--${name}`),
  ].map((word) => `\\fB${escape(word)}\\fR`).join(", ");
  const argument = value === undefined ? "" : ` \\fI${escape(value)}\\fR`;
  const text = `${help[0]!.toUpperCase()}${help.slice(1)}.`;
  const more = details === undefined ? "" : `\n${escape(details)}`;
  return `.TP\n${words}${argument}\n${escape(text)}${more}`;
}

const section = (title: string, ...paragraphs: string[]) =>
  `.SH ${title}\n${paragraphs.map(escape).join("\n.PP\n")}`;

const list = (items: readonly (readonly [string, string])[]) =>
  items.map(([name, text]) => `.TP\n\\fB${escape(name)}\\fR\n${escape(text)}`)
    .join("\n");

const EXAMPLES = [
  [
    "portalock backup.lock ./backup.sh",
    "Waits for the lock, then runs the script.",
  ],
  [
    "portalock -n backup.lock ./backup.sh",
    "Runs the script only if the lock is free. The exit status is 1 otherwise.",
  ],
  [
    "portalock -s data.lock -c 'cat data/* | wc -l'",
    "Shares the lock with other readers, and runs a shell line.",
  ],
  [
    "( portalock -n 9 || exit 1; ... ) 9>/run/lock/job",
    "Locks a file that the shell has opened.",
  ],
  [
    "portalock --redis redis://db report ./report.sh",
    "Holds a lock that all machines see.",
  ],
] as const;

const STATUSES = [
  ["1", "The lock is not free in time, or the status of -E."],
  ["64", "The command line is wrong."],
  ["65", "The file cannot be locked."],
  ["66", "The file cannot be opened."],
  ["69", "The command cannot be executed, or this system cannot lock."],
  ["70", "A defect of portalock."],
  ["71", "The system lacks memory, descriptors or locks."],
  [
    "73",
    "The file cannot be created, because its file system is full or " +
    "read-only.",
  ],
  ["75", "The lock in Redis was lost while the command ran."],
  ["128+N", "Signal N ended the command."],
] as const;

const DIFFERENCES = [
  [
    "status, doctor, completion",
    "As the first argument, these are subcommands. Write " +
    "./status to lock a file of that name.",
  ],
  [
    "Messages",
    "A wait is reported on standard error unless --quiet is given. " +
    "With --verbose, flock(1) writes to a buffer, so that a pipe receives its " +
    "messages after the output of the command; portalock writes them before it.",
  ],
  [
    "Waiting",
    "With -w, and during the first second of a wait, portalock does " +
    "not block in the kernel: a process that does gets the lock first.",
  ],
  [
    "Descriptors",
    "On Node and Bun, the command does not inherit pipes and " +
    "sockets that have numbers above 2.",
  ],
  [
    "Limits",
    "Runtimes raise the soft limit of open files. On Linux, portalock gives the " +
    "command the limit of its parent process if both have the same hard limit. " +
    "To set another one, use ulimit in the command.",
  ],
  [
    "Closed streams",
    "A standard stream that is closed becomes /dev/null for the command. As a " +
    "descriptor to lock, it is rejected.",
  ],
  [
    "Ignored signals",
    "Node forgets which signals it should ignore, so nohup(1) " +
    "must follow FILE. Deno does so while it waits. The command never ignores SIGPIPE and SIGXFSZ.",
  ],
  ["Environment and arguments", "Arguments must be UTF-8."],
  [
    "--",
    'Bun removes a "--" that is the first argument, if it runs the ' +
    "command by the name of a file.",
  ],
] as const;

/** Returns the source of `portalock.1`. */
export function manualPage(): string {
  return [
    `.TH PORTALOCK 1 "" "portalock ${VERSION}" "User Commands"`,
    ".SH NAME\nportalock \\- run a command while a lock is held",
    ".SH SYNOPSIS\n" + [
      "[\\fIOPTIONS\\fR] \\fIFILE\\fR|\\fIDIRECTORY\\fR \\fICOMMAND\\fR " +
      "[\\fIARGUMENT\\fR...]",
      "[\\fIOPTIONS\\fR] \\fIFILE\\fR|\\fIDIRECTORY\\fR \\fB\\-c\\fR " +
      "\\fISHELL\\-LINE\\fR",
      "[\\fIOPTIONS\\fR] \\fIDESCRIPTOR\\fR",
      "\\fBstatus\\fR [\\fIOPTIONS\\fR] \\fIFILE\\fR|\\fIDIRECTORY\\fR|" +
      "\\fINAME\\fR...",
      "\\fBdoctor\\fR [\\fIOPTIONS\\fR] \\fIPATH\\fR [\\fIPATH2\\fR]",
      "\\fBcompletion bash\\fR|\\fBzsh\\fR|\\fBfish\\fR",
    ].map((form) => `\\fBportalock\\fR ${form}`).join("\n.br\n"),
    section(
      "DESCRIPTION",
      "portalock locks a file or a directory, runs a command, and ends with its " +
        "exit status. It takes the options of flock(1), and the same locks: each " +
        "waits for the other. The file is created if it does not exist, and " +
        "stays.",
      "The command inherits the descriptor of the lock. So the lock is held as " +
        "long as the command runs, even if portalock is killed. Signals have the " +
        "same effect as on flock(1).",
    ),
    ".SH EXAMPLES\n" + list(EXAMPLES),
    ".SH OPTIONS\n" + OPTIONS.map(entry).join("\n"),
    ".SH OPTIONS OF STATUS\n" + STATUS_OPTIONS.map(entry).join("\n"),
    ".SH OPTIONS OF DOCTOR\n" + DOCTOR_OPTIONS.map(entry).join("\n"),
    ".SH EXIT STATUS\nThat of the command, or:\n" + list(STATUSES),
    ".SH DIFFERENCES TO FLOCK(1)\n" + list(DIFFERENCES),
    ".SH SEE ALSO\nflock(1), flock(2), fcntl(2)",
  ].join("\n") + "\n";
}
