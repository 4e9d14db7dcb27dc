/**
 * What the command shares with flock(1). Each case is a script of sh(1), which
 * runs once with `lock` as flock(1), and once with it as `portalock` on each
 * runtime. The exit status and the standard output must be equal. The lock that
 * they are compared by is that of `flock`, in both runs.
 */

import assert from "node:assert/strict";
import { portalock, runShell } from "../support/cli.ts";
import { runtimes } from "../support/env.ts";
import { test } from "../support/test.ts";

/** Tries the lock of a file from outside, and prints `free` or `busy`. */
const PRELUDE = `
try() { flock -n "$@" true && echo free || echo busy; }
`;

/** Locks the file in another process, and returns when it is locked. */
const HOLD = "mkfifo ready; " +
  "(flock 8; echo held; echo >ready; sleep 0.2; echo end) 8>f & read _ <ready;";

/** The same, for longer than a second. */
const LONG = HOLD.replace("0.2", "1.3");

/** Starts a program that writes its PID to `p`, and returns when it has. */
const START = "mkfifo started; " +
  "lock f sh -c 'echo $$ >p; echo >started; exec sleep 60' & read _ <started;";

/** Waits until the program of {@linkcode START} has ended. */
const GONE = "while kill -0 $(cat p) 2>&-; do :; done;";

/** The cases: what they show, and the script. */
const CASES: Readonly<Record<string, string>> = {
  // The forms.
  "runs a program": "lock f echo a 'b  c'",
  "runs a shell line": "lock f -c 'echo $0 a; exit 3'",
  "runs a shell line after --command": "lock f --command 'echo a'",
  "runs a shell line with /bin/sh if SHELL is empty":
    "SHELL=; export SHELL; lock f -c 'echo $0'",
  "-c takes one argument": "lock f -c a b",
  "-c takes an argument": "lock f -c",
  "-c before FILE is unknown": "lock -c true f",
  "locks a directory": "mkdir d; lock d sh -c 'flock -n d true; echo $?'",
  "locks a descriptor": "exec 9>f; lock 9; try f; exec 9>&-; try f",
  "locks a descriptor that is read-only": ": >f; exec 9<f; lock -n 9; try f",
  "creates the file": "umask 022; lock f stat -c '%a %s' f",
  "does not change the file": "echo abc >f; lock f true; cat f",
  "locks a read-only file": "echo a >f; chmod 444 f; lock f cat f",
  "locks a device": "lock -n /dev/null true",
  "the program reads standard input": "echo a | lock f cat",
  "a descriptor in a subshell":
    "( lock -n 9 || exit 7; try f ) 9>f; echo $?; try f",
  "FILE may look like a number": "lock 9 echo a; ls",

  // The kinds of locks.
  "is exclusive": "lock f flock -n -s f true",
  "-x is exclusive": "lock -x f flock -n -s f true",
  "-e is exclusive": "lock -e f flock -n -s f true",
  "--exclusive is exclusive": "lock --exclusive f flock -n -s f true",
  "-s is shared":
    "lock -s f sh -c 'flock -n -s f true; echo $?; flock -n f true'",
  "--shared is shared": "lock --shared f flock -n -s f true",
  "the last of -s and -x counts": "lock -s -x f flock -n -s f true",
  "the last of -x and -s counts": "lock -xs f flock -n -s f true",
  "-u unlocks a descriptor": "exec 9>f; flock 9; lock -u 9; echo $?; try f",
  "--unlock unlocks a descriptor":
    "exec 9>f; flock 9; lock --unlock 9; echo $?; try f",
  "-u with a program does not lock": "lock -u f flock -n f echo a",
  "upgrades a descriptor": "exec 9>f; lock -s 9; lock 9; flock -n -s f true",

  // Conflicts.
  "-n fails at once": "exec 8>f; flock 8; lock -n f echo a; echo $?; try f",
  "--nonblock fails at once": "exec 8>f; flock 8; lock --nonblock f echo a",
  "--nb fails at once": "exec 8>f; flock 8; lock --nb f echo a",
  "-n fails on a descriptor": "exec 8>f; flock 8; exec 9>f; lock -n 9",
  "-s fails on an exclusive lock": "exec 8>f; flock 8; lock -sn f echo a",
  "-s succeeds on a shared lock": "exec 8>f; flock -s 8; lock -sn f echo a",
  "-w fails after a time": "exec 8>f; flock 8; lock -w 0.05 f echo a",
  "-w takes an attached value": "exec 8>f; flock 8; lock -w.05 f echo a",
  "--timeout fails after a time":
    "exec 8>f; flock 8; lock --timeout=0.05 f echo a",
  "--wait fails after a time": "exec 8>f; flock 8; lock --wait .05 f echo a",
  "-w 0 is -n": "exec 8>f; flock 8; lock -w 0 f echo a; lock -w 0 g echo b",
  "-w accepts an exponent": "lock -w 1e1 f echo a",
  "-E sets the status": "exec 8>f; flock 8; lock -n -E 9 f echo a",
  "-E sets the status after a time":
    "exec 8>f; flock 8; lock -w 0.05 --conflict-exit-code=0 f echo a",
  "-E does not change other statuses": "lock -E 9 f sh -c 'exit 4'",
  "waits for a lock": `${HOLD} lock f echo a`,
  "waits for a lock within a time": `${HOLD} lock -w 60 f echo a`,
  "waits for a descriptor": `${HOLD} exec 9>f; lock 9; echo a; try f`,
  "waits for longer than a second": `${LONG} lock f echo a`,

  // What the program inherits.
  "the program inherits the lock":
    "lock f sh -c 'sleep 60 >&- 2>&- & echo $! >p'; try f; kill $(cat p); " +
    "while kill -0 $(cat p) 2>&-; do :; done; try f",
  "-o keeps the lock from the program":
    "lock -o f sh -c 'flock -n f true; echo $?; sleep 60 >&- 2>&- & echo $! >p'; " +
    "try f; kill $(cat p)",
  "--close keeps the lock from the program":
    "lock --close f sh -c 'ls -l /proc/self/fd | grep -c /f$'",
  "-F replaces the process":
    "lock -F f sh -c 'flock -n f true; echo $?; cat /proc/$PPID/comm'",
  "--no-fork replaces the process": "lock --no-fork f sh -c 'exit 5'",
  "-F and -o contradict": "lock -F -o f true",
  "pipes stay blocking": "seq 100000 | lock f cat | (sleep 0.3; wc -l)",
  "pipes stay blocking after a wait":
    `${HOLD} seq 100000 | lock f cat | (sleep 0.5; wc -l)`,
  // A here-document is a pipe of which the shell has closed the other end.
  "the program inherits pipes and devices":
    "lock f sh -c 'echo a >&3' 3>&1; lock f sh -c 'echo >&3; echo $?' 3>/dev/null; " +
    "lock f cat /dev/fd/4 4<<E\nb\nE\n",
  "the program inherits other locks":
    "exec 7>g; flock 7; lock f sh -c 'sleep 60 >&- 2>&- & echo $! >p'; " +
    "exec 7>&-; try g; kill $(cat p)",
  "the program has the descriptors of the caller":
    "lock f sh -c 'echo a >&3' 3>g; cat g",
  "the program has the environment":
    "A='b  c' B= ; export A B; lock f sh -c 'echo \"$A\" ${B-unset}'",
  "the program has bytes that are not UTF-8 in its environment":
    "A=$(printf '\\377'); export A; lock f sh -c 'printf %s \"$A\" | od -An -tx1'",
  "the program has the working directory":
    "mkdir d; cd d; lock ../f pwd | sed 's:.*/::'",
  // The last digits are those of the signals 1 to 28. A runner may block others.
  "the program has the signals of the caller":
    "lock f grep -E 'Sig(Blk|Ign)' /proc/self/status | grep -Eo '.{7}$' >a; " +
    "grep -E 'Sig(Blk|Ign)' /proc/self/status | grep -Eo '.{7}$' | cmp - a && echo same",
  // Not through the shell of `lock`, which would not ignore it anymore.
  "the program has SIGCHLD if the caller ignores it":
    "set -- f sh -c 'grep SigIgn /proc/self/status | grep -Eo .{7}$; exit 3'; " +
    'command=$(sed -n "s/^exec//p" "$(command -v lock)"); ' +
    'eval "env --ignore-signal=CHLD ${command:-flock \\"\\$@\\"}"',
  "the program has the whole environment":
    "list() { grep -v ^_= | sort; }; env | list >a; lock f env | list >b; " +
    "lock -F f env | list >c; cmp a b && cmp a c && echo same",
  "the program has the limits of the caller":
    "ulimit -Sn 500; lock f cat /proc/self/limits; lock -F f sh -c 'ulimit -Sn'; " +
    "lock -o f -c 'ulimit -Sn'; echo $?",
  "the program has the limits of the caller, after a wait":
    `ulimit -Sn 500; ${HOLD} lock f sh -c 'ulimit -Sn'; echo $?`,
  "the program has a limit that was set for it":
    "ulimit -Sn 500; (ulimit -n 700; exec lock f sh -c 'ulimit -n'); echo $?",
  "the program ends by SIGPIPE": "lock f yes | head -n 1",

  // Signals. The program writes its PID when it runs.
  "SIGKILL leaves the lock with the program":
    `${START} kill -KILL $!; wait $!; echo $?; try f; kill $(cat p); ${GONE} try f`,
  "SIGTERM ends only the command itself":
    `${START} kill -TERM $!; wait $!; echo $?; try f; kill $(cat p)`,
  "SIGHUP ends only the command itself":
    `${START} kill -HUP $!; wait $!; echo $?; try f; kill $(cat p)`,
  "SIGUSR1 ends only the command itself":
    `${START} kill -USR1 $!; wait $!; echo $?; try f; kill $(cat p)`,
  "SIGUSR1 ends only the command itself, after a wait":
    `${HOLD} ${START} kill -USR1 $!; wait $!; echo $?; try f; kill $(cat p)`,
  "SIGTERM to all processes of the group":
    `${START.replace("lock", "setsid lock")} env kill -TERM -- -$!; wait $!; ` +
    `echo $?; ${GONE} try f`,
  "the program is stopped and continued":
    `${START} kill -STOP $(cat p); kill -CONT $(cat p); ` +
    "kill -TERM $(cat p); wait $!; echo $?",
  "a signal while it waits":
    "exec 8>f; flock 8; lock -w 60 f echo a 8>&- & kill -TERM $!; wait $!; echo $?",

  // Exit statuses.
  "passes the status": "lock f sh -c 'exit 42'",
  "passes the largest status": "lock f sh -c 'exit 255'",
  "a signal is 128 and its number": "lock f sh -c 'kill -TERM $$'",
  "SIGKILL is 137": "lock f sh -c 'kill -KILL $$'",
  "a program that does not exist": "lock f ./missing",
  "a program that does not exist in PATH":
    "lock f missing-program; echo $?; try f",
  "a program that is empty": "lock f ''",
  "a program that is not executable": ": >p; lock f ./p",
  "a script without an interpreter":
    "echo 'echo $1' >p; chmod +x p; lock f ./p a",
  "a script without an interpreter in PATH":
    "echo 'echo $1' >pp; chmod +x pp; PATH=$PATH:$PWD; lock f pp a",
  "a script without an interpreter in an empty element of PATH":
    "echo 'echo $1' >pp; chmod +x pp; PATH=:$PATH; lock f pp a",
  "a script without an interpreter after other files of its name":
    "mkdir a d; echo >a/pp; mkdir d/pp; echo 'echo $1' >pp; chmod +x pp; " +
    "PATH=f:a:missing:d:$PWD:$PATH; lock f pp a",
  "-F with a script without an interpreter":
    "echo 'echo $1' >p; chmod +x p; lock -F f ./p a",
  "a program whose arguments are too long":
    "head -c 200000 /dev/zero | tr '\\0' a >a; lock f echo \"$(cat a)\" | wc -c; " +
    "lock f true; echo $?",
  "a program that is being written":
    "cp /bin/true p; exec 9>>p; lock f ./p; echo $?; lock -F f ./p",
  "a directory as the program": "mkdir p; lock f ./p; echo $?; lock -F f ./p",
  "a program without the permission to search its directory":
    "lock f /dev/null/p; echo $?; lock f ./$(head -c 300 /dev/zero | tr '\\0' a)",
  "a program that is a loop of links": "ln -s p p; lock f ./p",
  "an interpreter that does not exist":
    "echo '#!/missing' >p; chmod +x p; lock f ./p; echo $?; lock -F f ./p",
  "the name of the program": "lock f sh -c 'tr \\\\0 . </proc/self/cmdline'",
  "the umask of the program": "umask 027; lock f sh -c umask",
  "the priority of the program": "nice -n 3 lock f nice",
  "-F with a program that does not exist": "lock -F f ./missing",
  "a file in no directory": "lock d/f true",
  "a file without a name": "lock '' true",
  "a descriptor that is closed": "lock 9",
  // Bun drops a "--" that follows the name of its program.
  // Numbers that the runtime uses for itself.
  "descriptors that are closed":
    // Bun keeps the folder of this cache open.
    "export NODE_COMPILE_CACHE=$PWD/cache; for fd in 3 4 5 6 7 8 9 11 12 13 " +
    "14 15 16 17 18 19 20 21 22 23 24; do lock $fd; echo $?; done",
  "standard streams that are closed":
    "lock -n 0 <&-; echo $?; lock -n 1 >&-; echo $?",
  "a program with standard input that is closed": "lock f echo a <&-",
  "standard streams that are open":
    "lock -n 0 </dev/null; echo $?; lock -n 1 >/dev/null; echo $?; " +
    "echo | lock -n 0; echo $?; lock -n 0 <>f; echo $?",
  "a descriptor that is negative": "lock -n -- -1",
  "a descriptor that is too large": "lock 5000000000",
  "a descriptor that is a word": "lock nine",

  // The grammar.
  "nothing": "lock",
  "no file": "lock -s",
  "options end at FILE": "lock f echo -n a --help -- -c",
  "options end at --": "lock -n -- f echo a",
  "- is a file": "lock - echo a; ls",
  "options in one word": "exec 8>f; flock 8; lock -snE 9 f echo a",
  "a value in one word with options": "exec 8>f; flock 8; lock -nE9 f echo a",
  "a prefix of a long option": "lock --time 5 --excl f echo a",
  "a prefix of several names of an option": "lock --nonbl f echo a",
  "a prefix that options of portalock begin with, too":
    "lock --s f flock -n -s f echo a; lock --t 5 --e f flock -n -s f echo b; " +
    "exec 8>f; flock 8; lock --w .05 --con 9 f true",
  "an ambiguous prefix": "lock --no f true",
  "an unknown long option": "lock --unknown f true",
  "an unknown letter": "lock -z f true",
  "an option without its value": "lock -w",
  "a long option without its value": "lock --timeout",
  "a value for an option without one": "lock --shared=yes f true",
  "a timeout that is not a number": "lock -w abc f true",
  "a timeout that is empty": "lock -w '' f true",
  "a timeout with a comma": "lock -w 1,5 f true",
  "a timeout with a space before it": "lock -w ' 1.5' f echo a",
  "a timeout with a space behind it": "lock -w '1 ' f true",
  "a hexadecimal timeout":
    "lock -w 0x1.8p1 f echo a; exec 8>f; flock 8; lock -w 0x.1 f echo b",
  "a hexadecimal timeout without digits": "lock -w 0x f true",
  "a negative timeout": "lock -w -1 f true",
  "a negative timeout with -n": "lock -n -w -1 f true",
  "the last timeout counts": "lock -w -1 -w 0 f echo a",
  "a timeout that is infinite": "lock -w inf f true",
  "a timeout that is not a number of IEEE 754": "lock -w 'nan(1)' f true",
  "a timeout that is too large": "lock -w 1e20 f true",
  "a status that is not a number": "lock -E abc f true",
  "a status that is too large": "lock -E 256 f true",
  "a status that is negative": "lock -E -1 f true",
  "-h": "lock -h >/dev/null",
  "--help": "lock --help >/dev/null",
  "-V": "lock -V >/dev/null",
  "--version": "lock --version >/dev/null",
  "--help after another option": "lock -n --help >/dev/null",
  "options before --help are checked": "lock -w abc --help",
  "options behind --help are not read":
    "lock -hz >/dev/null; echo $?; lock -V --unknown >/dev/null; echo $?; " +
    "lock -F -h -o >/dev/null",
  "--verbose":
    "lock --verbose f true | sed 's/^[a-z]*: //; s/[0-9.]* sec/N sec/'",
  "--verbose on a descriptor":
    "exec 9>f; lock --verbose 9 | sed 's/^[a-z]*: //; s/[0-9.]* sec/N sec/'",
  "--verbose at a conflict": "exec 8>f; flock 8; lock --verbose -n f echo a",
};

/** The cases in which flock(2) fails, as strace(1) makes it. */
const INJECTED: Readonly<Record<string, string>> = {
  "over NFS, an exclusive lock opens the file for writing":
    `${
      fail("EBADF:when=1")
    } lock f sh -c 'grep flags: /proc/$$/fdinfo/*' >n; ` +
    "echo $?; grep -c 2$ n >/dev/null && echo writable",
  "over NFS, the file may be read-only": `${
    fail("EBADF")
  } lock -s f echo a; echo $?; ${fail("EIO")} lock f echo a`,
  "the system has no more locks": `${fail("ENOLCK")} lock f echo a`,
  "the system has no more memory": `${fail("ENOMEM")} lock f echo a`,
  "the file system cannot lock": `${fail("EOPNOTSUPP")} lock f echo a`,
  "a signal interrupts the call": `${fail("EINTR:when=1")} lock f echo a`,
};

function fail(error: string): string {
  return `strace -f -qq -o /dev/null -e trace=flock -e inject=flock:error=${error}`;
}

/** What only flock(1) cannot do: the script, and what it prints. */
const DIFFERENCES: Readonly<Record<string, readonly [string, string]>> = {
  // The status 1 would mean that the lock was busy, and that nothing ran.
  "a program whose status is unknown": [
    "strace -f -qq -o /dev/null -e trace=wait4 -e inject=wait4:error=ECHILD " +
    "lock f echo a; echo $?",
    "a\n71\n",
  ],
  "SIGUSR1 ends a wait": [
    "exec 8>f; flock 8; lock -w 60 f echo a 8>&- 2>err & " +
    "until grep -q waiting err 2>/dev/null; do sleep 0.05; done; " +
    "kill -USR1 $!; wait $!; echo $?; grep -c . err",
    "138\n1\n",
  ],
  // flock(1) ends with 1, as at a conflict.
  "the output cannot be written": [
    "lock --version >/dev/full; echo $?; lock --verbose f echo a >/dev/full; echo $?",
    "71\n71\n",
  ],
  // flock(1) ends with 1, as at a conflict, because it cannot close it.
  "standard error is closed": ["lock -n 2 2>&-; echo $?", "65\n"],
  "standard output is a full pipe that does not block": [
    ": >out; strace -f -qq -o /dev/null -P out -e trace=write " +
    "-e inject=write:error=EAGAIN:when=1..3 lock --verbose f true >out; " +
    "grep -c executing out",
    "1\n",
  ],
};

for (const [name, [script, expected]] of Object.entries(DIFFERENCES)) {
  test(
    `cli, unlike flock(1): ${name}`,
    async () => {
      for (const runtime of runtimes) {
        const lock = portalock(runtime);
        const { stdout, stderr } = await runShell(script, { lock });
        assert.equal(stdout, expected, `${runtime.name}: ${stderr}`);
      }
    },
    "flock(1)",
    "/proc",
    "strace(1)",
  );
}

test(
  "cli, as flock(1): the program ignores what the caller ignores, except on Node",
  async () => {
    const script = `trap '' HUP INT USR1; ${LONG} lock f sh -c ` +
      "'grep SigIgn /proc/self/status | grep -Eo .{7}$'; " +
      "lock f sh -c 'grep SigIgn /proc/self/status | grep -Eo .{7}$'";
    for (const runtime of runtimes) {
      if (runtime.name.startsWith("node")) continue;
      const { stdout } = await runShell(script, { lock: portalock(runtime) });
      assert.equal(stdout, "held\nend\n0000203\n0000203\n", runtime.name);
      // Deno catches SIGHUP some time after it begins to wait.
      if (runtime.name === "deno") continue;
      const waiting = await runShell(
        "trap '' HUP; exec 8>f; flock 8; lock -w 60 f echo a 8>&- 2>err & " +
          "until grep -q waiting err; do sleep 0.05; done; " +
          "kill -HUP $!; exec 8>&-; wait $!; echo $?",
        { lock: portalock(runtime) },
      );
      assert.equal(waiting.stdout, "a\n0\n", runtime.name);
    }
  },
  "flock(1)",
  "/proc",
);

for (
  const [name, script] of Object.entries({ ...CASES, ...INJECTED })
) {
  const needs = name in INJECTED ? ["strace(1)" as const] : [];
  test(
    `cli, as flock(1): ${name}`,
    async () => {
      const expected = await runShell(PRELUDE + script, { lock: ["flock"] });
      for (const runtime of runtimes) {
        const lock = portalock(runtime);
        const found = await runShell(PRELUDE + script, { lock });
        assert.deepEqual(
          [found.code, found.stdout],
          [expected.code, expected.stdout],
          `${runtime.name}: ${found.stderr}\nflock(1): ${expected.stderr}`,
        );
      }
    },
    "flock(1)",
    "/proc",
    ...needs,
  );
}
