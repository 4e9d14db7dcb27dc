/**
 * What bash, zsh and fish complete. Bash and zsh run in a terminal, in which
 * `portalock` is a function that prints its arguments, and each line is typed
 * with a tab behind it. Fish prints what it would offer.
 */

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { completionScript } from "../../src/cli/grammar/completion.ts";
import { runScript } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { inTerminal } from "../support/terminal.ts";
import type { Step } from "../support/terminal.ts";
import { test } from "../support/test.ts";

/** The words of a line, and what its last word becomes; `null` if it stays. */
type Case = readonly [line: string, completed: string | null];

/** The folder contains `file1` only. */
const CASES: readonly Case[] = [
  // Subcommands.
  ["sta", "status"],
  ["status --wat", "--watch"],
  ["status --json fi", "file1"],
  ["status file1 fi", "file1"],
  ["status --redis fi", null],
  ["doctor --fcn", "--fcntl"],
  ["completion fi", "fish"],
  // Options, and FILE.
  ["--nonblocki", "--nonblocking"],
  ["-n --semap", "--semaphore"],
  ["fi", "file1"],
  ["-n fi", "file1"],
  ["-w 5 fi", "file1"],
  ["-w5 fi", "file1"],
  ["-nE 9 fi", "file1"],
  ["--timeout 5 fi", "file1"],
  ["--timeout=5 fi", "file1"],
  ["--shared fi", "file1"],
  ["-n -- fi", "file1"],
  // The values of options are not files.
  ["-w fi", null],
  ["--timeout fi", null],
  // A subcommand is the first word.
  ["-n sta", null],
  // The command.
  ["file1 --comma", "--command"],
  ["file1 sha512s", "sha512sum"],
  ["-w 5 file1 sha512s", "sha512sum"],
  ["--timeout=5 file1 sha512s", "sha512sum"],
  ["file1 sha512sum fi", "file1"],
  // Options end at FILE.
  ["file1 --nonbl", null],
  ["file1 sha512sum -w fi", "file1"],
  ["file1 sha512sum --nonbl", null],
];

/** Bash and fish know prefixes of options, which zsh does not. */
const PREFIXES: readonly Case[] = [
  ["--time 5 fi", "file1"],
  ["--t 5 fi", "file1"],
  ["--s fi", "file1"],
];

/** Fish offers the options of a subcommand also behind its operands. */
const OPERANDS: readonly Case[] = [
  ["status file1 --wat", null],
];

/** The words of a line that is typed and completed. */
function completedWords([line, completed]: Case): string[] {
  const words = line.split(" ");
  return completed === null ? words : [...words.slice(0, -1), completed];
}

/** Types the lines to a shell, after the lines that set it up. */
async function typeTo(
  shell: readonly string[],
  setUp: string,
  cases: readonly Case[],
): Promise<void> {
  using dir = tempDir();
  writeFileSync(join(dir.path, "file1"), "");
  const start: Step[] = [
    ["type", "PS1=; PS2=\n"],
    ["type", `${setUp}; echo re''ady\n`],
    ["expect", "ready\r\n"],
  ];
  const steps = cases.flatMap((each): Step[] => [
    ["type", `portalock ${each[0]}\t\n`],
    ["expect", `${completedWords(each).map((word) => `<${word}>`).join("")}.`],
  ]);
  await inTerminal(shell, [...start, ...steps, ["type", "exit\n"]], dir.path);
}

/** Prints the arguments. */
const PRINT = "portalock() { printf '<%s>' \"$@\"; echo .; }";

for (const completion of ["", ". /usr/share/bash-completion/bash_completion"]) {
  const name = completion === "" ? "without" : "with";
  test(
    `cli completion: bash completes the command line, ${name} bash-completion`,
    async () => {
      using scripts = tempDir();
      const script = join(scripts.path, "portalock.bash");
      writeFileSync(script, completionScript("bash"));
      const setUp = `${PRINT}; ${completion || ":"}; . '${script}'`;
      const shell = ["bash", "--norc", "--noprofile", "-i"];
      await typeTo(shell, setUp, [...CASES, ...PREFIXES, ...OPERANDS]);
    },
    "bash(1)",
    "python3(1)",
    "/proc",
    ...completion === "" ? [] : ["bash-completion" as const],
  );
}

for (const way of ["sourced", "in $fpath"]) {
  test(
    `cli completion: zsh completes the command line, ${way}`,
    async () => {
      using scripts = tempDir();
      const script = join(scripts.path, "_portalock");
      writeFileSync(script, completionScript("zsh"));
      const init = "autoload -U compinit; compinit -u -D";
      const setUp = way === "sourced"
        ? `${init}; . '${script}'`
        : `fpath=('${scripts.path}' $fpath); ${init}`;
      await typeTo(["zsh", "-f", "-i"], `${PRINT}; ${setUp}`, [
        ...CASES,
        ...OPERANDS,
      ]);
    },
    "zsh(1)",
    "python3(1)",
    "/proc",
  );
}

test("cli completion: fish completes the command line", async () => {
  using dir = tempDir();
  using scripts = tempDir();
  writeFileSync(join(dir.path, "file1"), "");
  const cases = [...CASES, ...PREFIXES];
  const lines = cases.map(([line]) =>
    `complete -C 'portalock ${line}' | string replace -r '\\t.*' '' | string join ' '; echo .`
  );
  const file = join(scripts.path, "cases.fish");
  writeFileSync(file, [completionScript("fish"), ...lines].join("\n"));
  const env = { ...process.env, HOME: scripts.path };
  const { code, stdout, stderr } = await runScript(
    ["fish", "--no-config", file],
    { cwd: dir.path, env },
  );
  assert.equal(code, 0, stderr);
  const found = stdout.split(".\n").map((each) => each.trimEnd());
  assert.deepEqual(
    cases.map(([line], index) => [line, found[index]]),
    cases.map(([line, completed]) => [line, completed ?? ""]),
    stderr,
  );
}, "fish(1)");
