/** What the command does that flock(1) does not. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { portalock, runShell } from "../support/cli.ts";
import type { Outcome } from "../support/cli.ts";
import { denoWith, runtimes, testEnv } from "../support/env.ts";
import * as statuses from "../../src/cli/exit_status.ts";
import { manualPage } from "../../src/cli/grammar/manual.ts";
import { completionScript } from "../../src/cli/grammar/completion.ts";
import { OPTIONS } from "../../src/cli/grammar/options.ts";
import { SHELLS, SUBCOMMANDS } from "../../src/cli/grammar/subcommands.ts";
import type { TestRuntime } from "../support/env.ts";
import { test } from "../support/test.ts";

/** Runs a script on each runtime, with `lock` as the command. */
async function onEach(
  script: string,
  check: (outcome: Outcome, runtime: TestRuntime) => void,
): Promise<void> {
  for (const runtime of runtimes) {
    check(await runShell(script, { lock: portalock(runtime) }), runtime);
  }
}

/** A test of what a script prints, and of its exit status. */
function testScript(
  name: string,
  script: string,
  expected: string,
  code = 0,
): void {
  test(
    `cli: ${name}`,
    () =>
      onEach(script, (outcome, runtime) => {
        const message = `${runtime.name}: ${outcome.stderr}`;
        assert.equal(outcome.stdout, expected, message);
        assert.equal(outcome.code, code, message);
      }),
    "flock(1)",
    "/proc",
  );
}

/** A test of the message with which a command line is rejected. */
function testUsage(args: string, message: string | RegExp): void {
  test(
    `cli: rejects ${args}`,
    () =>
      onEach(
        `lock ${args}; status=$?; ls; exit $status`,
        (outcome, { name }) => {
          const { code, stdout, stderr } = outcome;
          assert.equal(code, 64, name);
          // Nothing was opened.
          assert.equal(stdout, "", name);
          if (typeof message === "string") {
            assert.equal(stderr, `portalock: ${message}\n`, name);
          } else assert.match(stderr, message, name);
        },
      ),
    "sh(1)",
    "/proc",
  );
}

/** Locks the file in another process until `end` is opened for writing. */
const HOLD = "mkfifo ready end; " +
  "flock f sh -c 'echo >ready; read _ <end' & read _ <ready;";

test("cli: each runtime excludes each other, in both directions", async () => {
  for (const one of runtimes) {
    for (const other of runtimes) {
      const { code, stdout } = await runShell(
        "one f other -n f echo no; echo $?; one -s f other -s -n f echo yes",
        { one: portalock(one), other: portalock(other) },
      );
      const names = `${one.name}, ${other.name}`;
      assert.deepEqual([code, stdout], [0, "1\nyes\n"], names);
    }
  }
}, "/proc");

test(
  "cli: after a second, a line on a pipe names the process that holds the lock",
  async () => {
    await onEach(
      `${HOLD} lock f echo got 2>log & ` +
        "until grep -q locked log 2>/dev/null; do sleep 0.01; done; echo >end; wait; " +
        "cat log; lock -w 0.1 f true",
      ({ stdout, stderr }, { name }) => {
        assert.match(
          stdout,
          /^got\nportalock: waiting for f, locked by process \d+ \(flock\) \(\d+ s\)\n$/,
          name,
        );
        assert.equal(stderr, "", name);
      },
    );
  },
  "flock(1)",
  "/proc",
);

test(
  "cli: a wait that ends in time is not reported",
  async () => {
    await onEach(
      "exec 8>f; flock 8; lock -w 0.3 f true; lock -w 1.5 -q f true",
      ({ code, stdout, stderr }, { name }) =>
        assert.deepEqual([code, stdout, stderr], [1, "", ""], name),
    );
  },
  "flock(1)",
  "/proc",
);

testScript(
  "--fcntl excludes record locks, and not flock(1)",
  "lock --fcntl f sh -c 'grep -c OFDLCK.*WRITE /proc/locks >n; " +
    "lock -n --fcntl f true; echo $?; lock -s -n --fcntl f true; echo $?; " +
    "flock -n f echo free'; lock --fcntl -s f lock --fcntl -s -n f echo shared",
  "1\n1\nfree\nshared\n",
);
testScript(
  "--range locks bytes",
  "lock --range 0:5 f sh -c 'lock -n --range 4:1 f true; echo $?; " +
    "lock -n --range 5:1 f echo free'",
  "1\nfree\n",
);
testScript(
  "--temporary removes the file",
  "lock --temporary f sh -c 'ls; lock -n --temporary f true; echo $?'; ls",
  "f\n1\n",
);
testScript(
  "--temporary leaves the file to a program that keeps the lock",
  "mkfifo started; " +
    "lock --temporary f sh -c 'echo $$ >p; echo >started; exec sleep 60' & " +
    "read _ <started; kill -KILL $!; wait $! 2>&-; lock -n --temporary f true; " +
    "echo $?; kill $(cat p)",
  "1\n",
);
testScript(
  "--temporary refuses a file that has content, and leaves it",
  "echo precious >f; lock --temporary f true; echo $?; cat f; " +
    ": >g; lock --temporary g true; echo $?; ls",
  "65\nprecious\n0\nf\n",
);
testScript(
  "the files of a program that outlived the command go with the next holder",
  "mkfifo started; for option in --temporary --pid-file; do " +
    "lock $option f sh -c 'echo $$ >p; echo >started; exec sleep 60' & " +
    "read _ <started; kill -KILL $!; wait $! 2>&-; ls; kill $(cat p); " +
    "lock $option f true; rm p; ls; done",
  "f\np\nstarted\nstarted\nf\nf.lock\np\nstarted\nstarted\n",
);
testScript(
  "--pid-file contains the PID of the program, and is removed",
  "lock --pid-file f sh -c 'until test $(cat f) = $$; do :; done; " +
    "lock -n --pid-file f true; echo $?; exit 4'; echo $?; ls",
  "1\n4\n",
);
test(
  "cli: a PID file that cannot be written does not end the lock of a program",
  () =>
    onEach(
      "strace -f -qq -o /dev/null -e trace=pwrite64 -e inject=pwrite64:error=EIO " +
        "lock --pid-file p sh -c 'sleep 0.3; lock -n --pid-file p true; echo $?'",
      ({ code, stdout, stderr }, { name }) =>
        assert.deepEqual([code, stdout], [0, "1\n"], `${name}: ${stderr}`),
    ),
  "/proc",
  "strace(1)",
);

testScript(
  "--pid-file leaves a file that another program has put in its place",
  "lock --pid-file f sh -c 'until test $(cat f) = $$; do :; done; " +
    "echo other >g; mv g f'; cat f",
  "other\n",
);
testScript(
  "--pid-file runs a program as flock(1) does",
  "mkdir d; : >n; echo 'echo script' >s; chmod +x s; " +
    "for program in ./d ./n ./s ''; " +
    'do lock --pid-file f "$program" 2>&-; echo $?; done; ' +
    "(trap '' CHLD; exec lock --pid-file f sh -c 'exit 3'); echo $?",
  "69\n69\nscript\n0\n69\n3\n",
);
testScript(
  "a program that --pid-file started ends by the PID in it",
  "mkfifo started; " +
    "lock --pid-file f sh -c 'echo >started; exec sleep 60' & " +
    "read _ <started; kill $(cat f); wait $!; echo $?; ls",
  "143\nstarted\n",
);
testScript(
  "a signal removes the files, and ends the command as it ends the program",
  "mkfifo started; run() { " +
    // A shell ignores INT and QUIT for a program in the background.
    "env --default-signal=INT,QUIT setsid lock $1 f " +
    "sh -c 'ulimit -c 0; echo >started; exec sleep 60' & read _ <started; " +
    "env kill $2 -- $3$!; wait $!; echo $? $(ls); }; " +
    "for option in --temporary --pid-file; do " +
    "run $option -INT -; run $option -TERM; run $option -HUP -; done; " +
    "run --pid-file -QUIT -; run --pid-file -USR1",
  [130, 143, 129, 130, 143, 129, 131, 138].map((code) => `${code} started\n`)
    .join(""),
);
testScript(
  "a script of a shell ends if Ctrl-C ended its program",
  "mkfifo started; env --default-signal=INT setsid bash -c '" +
    'lock --pid-file f sh -c "echo >started; exec sleep 60"; echo next\' & ' +
    "read _ <started; env kill -INT -- -$!; wait $!; echo $?; ls",
  "130\nstarted\n",
);
testScript(
  "the files stay as long as a program that ignores the signal",
  "mkfifo started go; for option in --temporary --pid-file; do " +
    "lock $option f sh -c 'trap \"\" TERM; echo >started; read _ <go; exit 6' & " +
    "read _ <started; kill -TERM $!; lock -n $option f true; echo $?; " +
    "echo >go; wait $!; echo $?; done; ls",
  "1\n6\n1\n6\ngo\nstarted\n",
);
testScript(
  "signals are passed on to a program under --pid-file",
  'mkfifo started; lock --pid-file f sh -c \'trap "exit 9" TERM; ' +
    'for s in HUP USR1 USR2 ALRM CONT WINCH; do trap "echo $s" $s; done; ' +
    "echo >started; while :; do sleep 0.01; done' >out & read _ <started; " +
    "for s in HUP USR1 USR2 ALRM CONT WINCH; do kill -$s $!; " +
    "until grep -q $s out; do sleep 0.01; done; done; " +
    "kill -TERM $!; wait $!; echo $?; cat out",
  "9\nHUP\nUSR1\nUSR2\nALRM\nCONT\nWINCH\n",
);
testScript(
  "a signal ends a wait for a lock of the library, and starts nothing",
  "mkfifo started go; lock --pid-file f sh -c 'echo >started; read _ <go' & " +
    "read _ <started; lock --pid-file f echo no 2>log & " +
    "until grep -q waiting log; do sleep 0.01; done; kill -TERM $!; wait $!; " +
    "echo $?; echo >go; wait; ls",
  "143\ngo\nlog\nstarted\n",
);
testScript(
  "--verbose reports the locks of the library",
  "lock --verbose --semaphore 1 f sh -c 'lock -n --verbose --semaphore 1 f true " +
    "2>&1; lock -w 0.01 --verbose --semaphore 1 f true 2>&1' | " +
    "sed 's/[0-9.]* sec/N sec/'",
  "portalock: getting lock took N seconds\nportalock: executing sh\n" +
    "portalock: failed to get lock\n" +
    "portalock: timeout while waiting to get lock\n",
);
testScript(
  "--semaphore leaves the slot to a program in the background",
  "lock --semaphore 1 f sh -c 'sleep 60 >&- 2>&- & echo $! >p'; " +
    "lock -n --semaphore 1 f true; echo $?; kill $(cat p)",
  "1\n",
);
testScript(
  "--semaphore lets as many in as it says",
  "lock --semaphore 2 f lock --semaphore 2 f sh -c " +
    "'ls; lock -n -E 7 --semaphore 2 f true; echo $?'",
  "f.00.lock\nf.01.lock\n7\n",
);
testScript(
  "--semaphore leaves the slot to a program that keeps the lock",
  "mkfifo started; " +
    "lock --semaphore 1 f sh -c 'echo $$ >p; echo >started; exec sleep 60' & " +
    "read _ <started; kill -KILL $!; wait $! 2>&-; lock -n --semaphore 1 f true; " +
    "echo $?; kill $(cat p)",
  "1\n",
);
testScript(
  "the program of another lock gets the same exit statuses",
  "lock --temporary f missing-program 2>&-; echo $?; " +
    "lock --semaphore 1 f sh -c 'kill -TERM $$'; echo $?; " +
    "lock --pid-file d/f true 2>&-; echo $?; ls",
  "69\n143\n66\nf.00.lock\n",
);

testUsage("completion tcsh", /^portalock: completion requires the name of a/);
testUsage("f", /^portalock: bad file descriptor: 'f' \(to lock a file, name a/);
testUsage(
  "--pid-file --temporary f true",
  "the --pid-file and --temporary options are incompatible",
);
for (const option of ["--temporary", "--pid-file", "--redis redis://a"]) {
  testUsage(
    `-F ${option} f true`,
    /the --no-fork and --[a-z-]+ options are incompatible: portalock has to run/,
  );
}
testUsage(
  "--semaphore 2 -s f true",
  "the --semaphore and --shared options are incompatible",
);
testUsage("--semaphore 0 f true", "invalid number of holders: '0'");
testUsage("--semaphore 2 9", "this lock requires a command");
testUsage(
  "--range 5 f true",
  "invalid range: '5' (expected START:LENGTH, in bytes)",
);
testUsage("--kill-after 5 f true", "--kill-after requires --redis");
testUsage(
  "--kill-after -5 --redis redis://a f true",
  "invalid --kill-after: '-5' (expected seconds, or inf)",
);
testUsage(
  "--kill-after nan --redis redis://a f true",
  "invalid --kill-after: 'nan' (expected seconds, or inf)",
);
testUsage("--info '{' --redis redis://a f true", "invalid JSON: '{'");
testUsage(
  "--redis redis://a --temporary f true",
  "the --redis and --temporary options are incompatible",
);

test(
  "cli: --version is the version of the package",
  async () => {
    const text = readFileSync(join(testEnv.root, "deno.json"), "utf8");
    const { version } = JSON.parse(text);
    await onEach("lock --version", ({ stdout }, { name }) => {
      assert.equal(stdout, `portalock ${version}\n`, name);
    });
  },
  "sh(1)",
  "/proc",
);

test(
  "cli: without FFI, Deno locks files, and the program does not inherit",
  async () => {
    const allowed = ["read", "write", "run", "env", "sys"];
    const deno = denoWith(...allowed.map((name) => `--allow-${name}`));
    const { code, stdout, stderr } = await runShell(
      "lock f sh -c 'flock -n f true; echo $?; exit 4'; echo $?; " +
        "exec 8>f; flock 8; lock -n -E 7 f true; echo $?; lock -n 8",
      { lock: portalock(deno) },
    );
    assert.equal(stdout, "1\n4\n7\n", stderr);
    assert.equal(code, 69);
    assert.match(stderr, /^portalock: Deno \S+ cannot lock a file descriptor/);
  },
  "Deno",
  "flock(1)",
);

test(
  "cli: completion prints what makes a shell complete the command line",
  async () => {
    for (const shell of SHELLS) {
      await onEach(
        `lock completion ${shell}`,
        ({ stdout, stderr }, { name }) => {
          assert.equal(stdout, completionScript(shell), `${name}: ${stderr}`);
        },
      );
    }
  },
  "sh(1)",
  "/proc",
);

test(
  "cli: the help fits a screen of 24 lines and 80 columns, and names every option",
  async () => {
    await onEach("lock --help", ({ stdout }, { name }) => {
      const lines = stdout.split("\n");
      // The last line is empty. The prompt of the shell is there.
      assert.ok(lines.length <= 24, `${name}: ${lines.length} lines`);
      assert.deepEqual(lines.filter((line) => line.length > 80), [], name);
      assert.match(lines[2]!, /^ {2}portalock backup/, "examples come first");
      for (const { names: [option], letters: [letter] } of OPTIONS) {
        const known = letter === undefined ? `--${option}` : `-${letter}`;
        assert.match(stdout, new RegExp(` ${known}\\b`), name);
      }
    });
  },
  "sh(1)",
  "/proc",
);

test(
  "cli: the help of a subcommand names its options and statuses",
  async () => {
    for (const [subcommand, about] of Object.entries(SUBCOMMANDS)) {
      await onEach(`lock ${subcommand} -hz`, ({ code, stdout }, { name }) => {
        assert.equal(code, 0, name);
        assert.match(stdout, new RegExp(`portalock ${subcommand} \\S`), name);
        assert.ok(stdout.split("\n").every((line) => line.length <= 80), name);
        for (const { names: [option] } of about.options) {
          assert.match(stdout, new RegExp(`  --${option}\\b|, --${option}\\b`));
        }
        for (const [status, text] of about.statuses) {
          assert.ok(
            stdout.includes(`${status}  ${text}\n`),
            `${name}: ${status}`,
          );
        }
      });
    }
  },
  "sh(1)",
  "/proc",
);

test("cli: the manual page names every option and status", () => {
  const page = manualPage().replaceAll("\\-", "-");
  const options = Object.values(SUBCOMMANDS).flatMap(({ options }) => options);
  for (const { names } of [...OPTIONS, ...options]) {
    for (const option of names) assert.ok(page.includes(`--${option}`), option);
  }
  for (const status of Object.values(statuses)) {
    if (typeof status !== "number") continue;
    assert.ok(page.includes(`\\fB${status}\\fR`), `status ${status}`);
  }
  // What mandoc(1) and troff(1) would take for a request.
  assert.doesNotMatch(page, /^(?!\.(TH|SH|SS|TP|PP|br|BR)\b)['.]/m);
});

test(
  "cli: rejects an argument that is not UTF-8, and opens nothing",
  async () => {
    await onEach(
      'lock "$(printf "a\\377b")" true; test $? -gt 0 && ls',
      ({ code, stdout, stderr }, { name }) => {
        assert.deepEqual([code, stdout], [0, ""], name);
        // Deno rejects it itself.
        assert.match(stderr, /argument is not UTF-8|invalid UTF-8/, name);
      },
    );
  },
  "sh(1)",
  "/proc",
);

testScript(
  "rejects a descriptor of a file in /proc, as Bun opens one for itself",
  "lock 5 5</proc/self/statm 2>err; echo $?; grep -c 'Bad file' err",
  "65\n1\n",
);

testScript(
  "skips -- between the file and the command",
  "lock f -- printf %s a; lock f -- -c 'printf b'; lock f printf %s --",
  "ab--",
);

testScript(
  "accepts U+FFFD in an argument that is UTF-8",
  "lock f printf %s a\ufffdb",
  "a\ufffdb",
);

test(
  "cli: a message shows the control characters of a name",
  async () => {
    await onEach(
      "lock \"$(printf 'd/\\033[2Jf\\nportalock: fake')\" true",
      ({ code, stderr }, { name }) => {
        assert.equal(code, 66, name);
        assert.equal(
          stderr,
          "portalock: cannot open lock file d/\\u001b[2Jf\\u000aportalock: fake: " +
            "No such file or directory\n",
          name,
        );
      },
    );
  },
  "sh(1)",
  "/proc",
);
