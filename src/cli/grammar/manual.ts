/**
 * The manual page, from the tables of options and subcommands. The build writes
 * it. It is written here, because the generators of npm start from Markdown or
 * from a table of their own, and it takes less code than their configuration.
 */

import type { Option } from "./getopt.ts";
import { VERSION } from "./help.ts";
import { OPTIONS } from "./options.ts";
import { SUBCOMMANDS } from "./subcommands.ts";
import type { Subcommand } from "./subcommands.ts";

/** When the text was last changed. */
const DATE = "2026-11-29";

type Rows = readonly (readonly [name: string, text: string])[];

/** Escapes text for troff(1). */
function escape(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-")
    .replaceAll("'", "\\(aq").replaceAll("`", "\\(ga").replaceAll("^", "\\(ha")
    .replaceAll("~", "\\(ti").replace(/^\./, "\\&.");
}

/** The longest line of the source, which reviewers of manual pages ask for. */
const LINE_WIDTH = 80;

/** Escapes a text and breaks it into lines. */
function prose(text: string): string {
  const lines: string[] = [""];
  for (const word of text.split(" ").map(escape)) {
    const last = lines.at(-1)!;
    if (last === "") lines[lines.length - 1] = word;
    else if (last.length + word.length < LINE_WIDTH) {
      lines[lines.length - 1] = `${last} ${word}`;
    } else lines.push(word);
  }
  return lines.join("\n");
}

/** Text in bold, or in italics. */
const bold = (text: string) => `\\fB${escape(text)}\\fR`;
const italic = (text: string) => `\\fI${escape(text)}\\fR`;

/** Writes words in capital letters, which stand for others, in italics. */
const form = (text: string) =>
  text.replace(
    /[A-Z][A-Z\d-]*|[^A-Z]+/g,
    (part) => /^[A-Z]/.test(part) ? italic(part) : bold(part),
  );

function entry({ names, letters, value, help, details }: Option): string {
  const words = [
    ...letters.map((letter) => `-${letter}`),
    ...names.map((name) => `--${name}`),
  ].map(bold).join(", ");
  const argument = value === undefined ? "" : ` ${form(value)}`;
  const text = details ?? `${help[0]!.toUpperCase()}${help.slice(1)}.`;
  return `.TP\n${words}${argument}\n${prose(text)}`;
}

const paragraphs = (...texts: string[]) => texts.map(prose).join("\n.PP\n");

const list = (items: Rows) =>
  items.map(([name, text]) => `.TP\n${bold(name)}\n${prose(text)}`).join("\n");

const FORMS = [
  "[OPTIONS] FILE|DIRECTORY COMMAND [ARGUMENT...]",
  "[OPTIONS] FILE|DIRECTORY -c SHELL-LINE",
  "[OPTIONS] DESCRIPTOR",
];

const DESCRIPTION = [
  "portalock locks a file or a directory, runs a command, and ends with its " +
  "exit status. It takes the options of flock(1), and the same locks: each " +
  "waits for the other. The file is created if it does not exist, and stays. " +
  "Options end at FILE: what follows belongs to the command.",
  "The command inherits the descriptor of the lock. So the lock is held as " +
  "long as the command or a process that it started has the descriptor, even " +
  "if portalock is killed. A lock in Redis is different: it ends with portalock.",
  "The third form locks a descriptor that the shell has opened. The lock is " +
  "held until the shell closes it.",
];

const EXAMPLES: Rows = [
  [
    "portalock backup.lock ./backup.sh",
    "Waits for the lock, then runs the script.",
  ],
  [
    "portalock -n backup.lock ./backup.sh",
    "Runs the script only if the lock is free. The exit status is 1 otherwise.",
  ],
  [
    "portalock -F backup.lock ./server",
    "Becomes the server. Nothing else stays in memory. Use this for long jobs, " +
    "and for the first process of a container.",
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
];

const STATUSES: Rows = [
  ["1", "The lock is not free in time, or the status of -E."],
  ["64", "The command line is wrong."],
  ["65", "The file cannot be locked."],
  ["66", "The file cannot be opened."],
  [
    "69",
    "The command cannot be executed, this system cannot lock, or Redis cannot " +
    "be reached.",
  ],
  ["70", "An error that portalock did not expect."],
  ["71", "The system lacks memory, descriptors or locks."],
  [
    "73",
    "The file cannot be created, because its file system is full or " +
    "read-only.",
  ],
  ["75", "The lock in Redis was lost while the command ran."],
  ["128+N", "Signal N ended the command."],
];

const SIGNALS: Rows = [
  [
    "From a terminal",
    "Ctrl-C, Ctrl-\\ and Ctrl-Z reach portalock and the command, because both " +
    "are in the foreground. The command gets each of them once.",
  ],
  [
    "To portalock alone",
    "As under flock(1), a signal such as SIGTERM ends only portalock. The " +
    "command runs on, and keeps the lock unless -o is given. To reach the " +
    "command, use -F, or send the signal to the process group.",
  ],
  [
    "With --redis, --temporary or --pid-file",
    "portalock has to run as long as the command. So it passes INT, TERM, HUP, " +
    "QUIT, USR1, USR2, ALRM, CONT and WINCH on to the command, and waits for " +
    "its end. It does the same on Windows, and on Deno without --allow-ffi, " +
    "because the command does not inherit the lock there.",
  ],
  [
    "SIGKILL",
    "It cannot be passed on. The command runs on and keeps the lock of a file. " +
    "A lock in Redis ends, and the command runs on without it.",
  ],
  [
    "As process 1",
    "Linux does not end the first process of a container by a signal that it " +
    "does not handle. Use -F, so that this process is the command.",
  ],
];

const DIFFERENCES: Rows = [
  [
    "status, doctor, completion",
    "As the first argument, these are subcommands. Write ./status to lock a " +
    "file of that name.",
  ],
  [
    "Options",
    "A prefix that flock(1) understands means the same option. A wrong value " +
    "of -w is reported before FILE is opened. -w takes the numbers of strtod(3) " +
    "in the C locale. A -- between FILE and COMMAND is skipped; flock(1) would " +
    "run a program of that name.",
  ],
  [
    "Messages",
    "A wait is reported on standard error unless --quiet is given. " +
    "With --verbose, flock(1) writes to a buffer, so that a pipe receives its " +
    "messages after the output of the command; portalock writes them before it.",
  ],
  [
    "Waiting",
    "With -w, on a terminal, and during the first second of a wait, portalock " +
    "does not block in the kernel: a process that does gets the lock first.",
  ],
  [
    "Memory",
    "While the command runs, portalock takes 88 MB on Node, 56 MB on Deno and " +
    "33 MB on Bun, and flock(1) takes 2 MB. With -F, it takes nothing.",
  ],
  [
    "Descriptors",
    "Node and Bun do not pass on descriptors with numbers above 255, and pipes " +
    "of which they got both ends. On Windows, and on Deno without --allow-ffi, the command inherits 0 to 2 " +
    "only, and the lock ends with portalock.",
  ],
  [
    "Limits",
    "Runtimes raise the soft limit of open files. On Linux, portalock gives the " +
    "command the limit of its parent process if both have the same hard limit, " +
    "and if portalock is not process 1. " +
    "To set another one, use ulimit in the command.",
  ],
  [
    "Closed streams",
    "A standard stream that is closed becomes /dev/null for the command. As a " +
    "descriptor to lock, it is rejected.",
  ],
  [
    "Ignored signals",
    "Node forgets which signals it should ignore, so nohup(1) must follow FILE. " +
    "Deno does so while it waits. The command never ignores SIGPIPE and SIGXFSZ, " +
    "and always the real-time signals 32 and 33, which the C library keeps.",
  ],
  ["Arguments", "They must be UTF-8."],
  [
    "--",
    'Bun removes a "--" that is the first argument, if it runs the command by ' +
    "the name of a file.",
  ],
];

function subcommand([name, command]: [string, Subcommand]): string[] {
  const usage = `portalock ${name} [OPTIONS] ${command.operands}`;
  return [
    `.SS ${escape(usage)}`,
    prose(`${command.summary}.`),
    ...command.options.map(entry),
  ];
}

function subcommandStatuses([name, { statuses }]: [string, Subcommand]) {
  if (statuses.length === 0) return [];
  return [`.SS portalock ${name}`, list(statuses)];
}

/** Returns the source of `portalock.1`. */
export function manualPage(): string {
  const subcommands: [string, Subcommand][] = Object.entries(SUBCOMMANDS);
  const forms = [
    ...FORMS,
    ...subcommands.map(([name, { operands }]) =>
      `${name} [OPTIONS] ${operands}`
    ),
  ];
  return [
    `.TH PORTALOCK 1 ${DATE} "portalock ${VERSION}" "User Commands"`,
    ".SH NAME",
    "portalock \\- run a command while a lock is held",
    ".SH SYNOPSIS",
    forms.map((each) => `${bold("portalock")} ${form(each)}`).join("\n.br\n"),
    ".SH DESCRIPTION",
    paragraphs(...DESCRIPTION),
    ".SH EXAMPLES",
    list(EXAMPLES),
    ".SH OPTIONS",
    OPTIONS.map(entry).join("\n"),
    ".SH SUBCOMMANDS",
    ...subcommands.flatMap(subcommand),
    ".SH EXIT STATUS",
    "That of the command, or:",
    list(STATUSES),
    ...subcommands.flatMap(subcommandStatuses),
    ".SH SIGNALS",
    list(SIGNALS),
    ".SH DIFFERENCES FROM FLOCK(1)",
    list(DIFFERENCES),
    ".SH SEE ALSO",
    [["flock", 1], ["flock", 2], ["fcntl", 2]].map(([name, part]) =>
      `.BR ${name} (${part})`
    ).join(",\n"),
  ].join("\n") + "\n";
}
