/**
 * The command in a terminal, with the job control of a shell. What is typed is
 * typed to flock(1), too, and must have the same effect.
 */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { waitLine } from "../../src/cli/run/report_wait.ts";
import { portalock } from "../support/cli.ts";
import { runtimes } from "../support/env.ts";
import { tempDir } from "../support/temp_dir.ts";
import { inTerminal } from "../support/terminal.ts";
import type { Step } from "../support/terminal.ts";
import { test } from "../support/test.ts";

/** Types to a shell, in which `lock` is the command. */
function inShell(command: readonly string[], steps: readonly Step[]) {
  const words = command.map((word) => `'${word}'`).join(" ");
  return inTerminal(["bash", "--norc", "--noprofile", "-i"], [
    [
      "type",
      `PS1=; stty -echo; words=(${words}); ` +
      `lock() { "\${words[@]}" "$@"; }; echo re''ady\n`,
    ],
    ["expect", "ready\r\n"],
    ...steps,
    ["type", "exit\n"],
  ]);
}

/** The shell is ready again when it prints the status. */
const STATUS: readonly Step[] = [["type", "echo status=$?.\n"]];

/** What is typed, and what is expected; in this order. */
const SESSIONS: Readonly<Record<string, readonly Step[]>> = {
  "Ctrl-C ends both": [
    ["type", "lock f sh -c 'echo run''ning; exec sleep 60'\n"],
    ["expect", "running"],
    ["type", "\x03"],
    ...STATUS,
    ["expect", "status=130."],
    ["type", "flock -n f echo fr''ee\n"],
    ["expect", "free"],
  ],
  "Ctrl-\\ ends both": [
    ["type", "ulimit -c 0; lock f sh -c 'echo run''ning; exec sleep 60'\n"],
    ["expect", "running"],
    ["type", "\x1c"],
    ...STATUS,
    ["expect", "status=131."],
  ],
  "Ctrl-C reaches a program that handles it": [
    [
      "type",
      "lock f sh -c 'trap \"echo han''dled; exit\" INT; echo run''ning; " +
      "while :; do sleep 0.01; done'\n",
    ],
    ["expect", "running"],
    ["type", "\x03"],
    ["expect", "handled"],
    ...STATUS,
    ["expect", "status=130."],
  ],
  "Ctrl-Z stops both, and fg continues them": [
    ["type", "lock f sh -c 'echo run''ning; exec cat'\n"],
    ["expect", "running"],
    ["type", "\x1a"],
    ["expect", "Stopped"],
    ...STATUS,
    ["expect", "status=148."],
    ["type", "flock -n f true || echo bu''sy\n"],
    ["expect", "busy"],
    ["type", "fg\n"],
    // What fg prints: the command of the function.
    ["expect", '"$@"\r\n'],
    ["type", "te''xt\n"],
    ["expect", "te''xt"],
    ["type", "\x04"],
    ...STATUS,
    ["expect", "status=0."],
  ],
  "the program reads from the terminal": [
    ["type", "lock f sh -c 'read a; echo \"<$a>\"; test -t 0; echo $?'\n"],
    ["type", "words\n"],
    ["expect", "<words>"],
    ["expect", "0"],
  ],
  "the program in the background does not read from the terminal": [
    ["type", "lock f cat & sleep 0.1; wait $!; echo status=$?.\n"],
    ["expect", "status=149."],
    ["type", "kill %1; fg\n"],
  ],
  "the program learns the size of the terminal": [
    [
      "type",
      'lock f sh -c \'trap "stty size; exit" WINCH; stty rows 33 cols 44; ' +
      "while :; do sleep 0.01; done'\n",
    ],
    ["expect", "33 44"],
  ],
  // The shell ends if the terminal is another than the program made it.
  "the program changes the terminal": [
    [
      "type",
      "lock f stty -echoctl; stty -a | grep -q -- -echoctl || exit; echo ke''pt\n",
    ],
    ["expect", "kept"],
  ],
  "in the background, the end does not change the terminal": [
    [
      "type",
      "mkfifo go; lock f sh -c 'echo run''ning; read _ <go' & job=$!\n",
    ],
    ["expect", "running"],
    [
      "type",
      "sh -c 'stty -echoctl; echo >go; " +
      "while kill -0 $0 2>/dev/null; do sleep 0.01; done; " +
      "stty -a | grep -q -- -echoctl' $job || exit; echo ke''pt\n",
    ],
    ["expect", "kept"],
  ],
  "Ctrl-C ends a wait": [
    [
      "type",
      "exec 8>f; flock 8; sh -c 'echo wait''ing; exec \"$@\"' sh " +
      '"${words[@]}" -w 60 f true 8>&-\n',
    ],
    ["expect", "waiting"],
    ["type", "\x03"],
    ...STATUS,
    ["expect", "status=130."],
  ],
};

for (const [name, steps] of Object.entries(SESSIONS)) {
  test(
    `cli in a terminal, as flock(1): ${name}`,
    async () => {
      await inShell(["flock"], steps);
      for (const runtime of runtimes) await inShell(portalock(runtime), steps);
    },
    "flock(1)",
    "python3(1)",
    "/proc",
  );
}

test(
  "cli in a terminal: a line names the holder, in place, until the end of the wait",
  async () => {
    for (const runtime of runtimes) {
      const words = portalock(runtime).map((word) => `'${word}'`).join(" ");
      const { output, status } = await inTerminal(
        [
          "sh",
          "-c",
          "mkfifo r; exec 3<&0; (flock 8; echo >r; read _ <&3) 8>f & " +
          `read _ <r; ${words} f echo done`,
        ],
        [
          ["expect", "\r\x1b[Kportalock: waiting for f, locked by process "],
          ["expect", "(1 s)\r\x1b[K"],
          ["expect", "(2 s)"],
          ["type", "\n"],
          ["expect", "\r\x1b[Kdone\r\n"],
        ],
      );
      assert.equal(status, 0, runtime.name);
      // The line is not ended before it is removed.
      assert.doesNotMatch(output, /s\)\r?\n.*portalock/, runtime.name);
    }
  },
  "flock(1)",
  "python3(1)",
  "/proc",
);

test(
  "cli in a terminal: a job in the background does not write over the line",
  async () => {
    for (const runtime of runtimes) {
      const words = portalock(runtime).map((word) => `'${word}'`).join(" ");
      const { output } = await inTerminal(
        ["bash", "--norc", "--noprofile", "-i"],
        [
          [
            "type",
            "flock f sleep 2.6 & while flock -n f true; do :; done; " +
            `${words} f echo "do"ne & sleep 2.4; echo "mid"dle\n`,
          ],
          ["expect", "middle\r\n"],
          ["expect", "done\r\n"],
          ["type", "exit\n"],
        ],
      );
      assert.doesNotMatch(output, /waiting for f/, runtime.name);
    }
  },
  "flock(1)",
  "python3(1)",
  "/proc",
);

test(
  "cli in a terminal: the line fits the terminal, and shows control characters",
  async () => {
    for (const runtime of runtimes) {
      const words = portalock(runtime).map((word) => `'${word}'`).join(" ");
      const { output } = await inTerminal(
        [
          "sh",
          "-c",
          "stty cols 60; mkfifo r; exec 3<&0; " +
          `n="$(printf 'a%099d\\033[31m' 0)"; ` +
          '(flock 8; echo >r; read _ <&3) 8>"$n" & ' +
          `read _ <r; ${words} "$n" echo done`,
        ],
        [
          ["expect", "waiting"],
          ["type", "\n"],
          ["expect", "\r\x1b[Kdone\r\n"],
        ],
      );
      const lines = output.split("\r\x1b[K").slice(1, -1)
        .map((line) => line.trimEnd());
      for (const line of lines) {
        const message = `${runtime.name}: ${JSON.stringify(output)}`;
        assert.ok(line.length < 60, message);
        assert.match(
          line,
          /^portalock: waiting for …\S*\\u001b\[31m", locked by/,
          message,
        );
      }
    }
  },
  "flock(1)",
  "python3(1)",
  "/proc",
);

test(
  "cli in a terminal: Ctrl-C removes the line, and ends the command by SIGINT",
  async () => {
    // Each takes seconds, so each runtime waits in one of the two ways.
    for (const [index, runtime] of runtimes.entries()) {
      const options = index % 2 === 0 ? "" : "--semaphore 1 ";
      await inShell(portalock(runtime), [
        ["type", "exec 8>f 7>f.00.lock; flock 8; flock 7\n"],
        ["type", `lock ${options}f true 7>&- 8>&-\n`],
        ["expect", "(1 s)"],
        ["type", "\x03"],
        ["expect", "\r\x1b[K"],
        ...STATUS,
        ["expect", "status=130."],
      ]);
    }
  },
  "flock(1)",
  "python3(1)",
  "/proc",
);

test("cli: the line that reports a wait has fewer columns than the terminal", () => {
  const wait = (name: string) => ({ name, state: () => "locked by b\x1b[1m" });
  assert.equal(
    waitLine(wait("a"), 3, 80),
    "portalock: waiting for a, locked by b\\u001b[1m (3 s)",
  );
  const name = "/srv/" + "a".repeat(60) + "/job.lock";
  assert.equal(
    waitLine(wait(name), 3, 71),
    "portalock: waiting for …aaaaaaaa/job.lock, locked by b\\u001b[1m (3 s)",
  );
  // A character of East Asia has two columns.
  const wide = waitLine(wait("\u9396".repeat(60)), 3, 50);
  assert.ok(wide.length + wide.split("\u9396").length - 1 < 50, wide);
  assert.equal(waitLine(wait(name), 3, 10), "portalock");
  assert.equal(waitLine(wait(name), 3, Infinity).includes(name), true);
});

/**
 * A program that counts how often it gets a signal. USR1 to the command, which
 * passes it on after all that it has got before, ends it.
 */
function counter(signal: string, counted: string): string {
  return `trap 'n=x$n; ${counted}' ${signal}; ` +
    "trap 'echo $n >count; exit 5' USR1; echo running >/dev/tty; " +
    "while :; do sleep 0.01; done";
}

const END = "kill -USR1 $PPID";

/**
 * Scripts of sh(1) in which `lock` runs the program, what follows, the signal
 * that the program gets once, and what it does then.
 */
const ONCE: Readonly<Record<string, readonly [string, Step, string, string]>> =
  {
    "Ctrl-C reaches the program once, also if standard streams are redirected":
      ["lock <&- >out 2>&1", ["type", "\x03"], "INT", END],
    "the end of the terminal is passed on if the command leads the session": [
      "exec lock",
      ["hang up", ""],
      "HUP",
      END,
    ],
    "the end of the terminal is not passed on if all processes get it": [
      "trap 'until test $(cat f) != $!; do :; done; kill -HUP $(cat f); " +
      "until test -e got; do sleep 0.01; done; kill -HUP $!; kill -USR1 $!' HUP; " +
      "lock & wait; wait",
      ["hang up", ""],
      "HUP",
      ": >got",
    ],
  };

for (const [name, [line, step, signal, counted]] of Object.entries(ONCE)) {
  test(
    `cli in a terminal: ${name}`,
    async () => {
      for (const runtime of runtimes) {
        using dir = tempDir();
        const words = [...portalock(runtime), "--pid-file", "f", "sh", "-c"];
        const command = [...words, counter(signal, counted)]
          .map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
        await inTerminal(
          ["sh", "-c", line.replace("lock", () => command)],
          [["expect", "running"], step],
          dir.path,
        );
        const count = readFileSync(join(dir.path, "count"), "utf8");
        assert.equal(count, "x\n", runtime.name);
      }
    },
    "python3(1)",
    "/proc",
  );
}
