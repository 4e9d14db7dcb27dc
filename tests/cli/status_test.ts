/** `portalock status`. */

import assert from "node:assert/strict";
import { portalock, runShell } from "../support/cli.ts";
import type { Outcome } from "../support/cli.ts";
import { runtimes } from "../support/env.ts";
import type { TestRuntime } from "../support/env.ts";
import { test } from "../support/test.ts";
import { freePort } from "../redis/support/binaries.ts";
import { RedisServer } from "../redis/support/server.ts";

/** Runs a script on each runtime, with `lock` as the command. */
const onEach = onAll.bind(null, runtimes);

/** Runs a script on one runtime, if what it tests is the same on each. */
const onOne = onAll.bind(null, runtimes.slice(0, 1));

async function onAll(
  on: readonly TestRuntime[],
  script: string,
  check: (outcome: Outcome, runtime: string) => void,
  ...options: string[]
): Promise<void> {
  for (const runtime of on) {
    const lock = portalock(runtime);
    const redis = [...lock, ...options];
    check(await runShell(script, { lock, redis }), runtime.name);
  }
}

/**
 * Holds a shared lock of `f`, and lets a process wait for an exclusive one. A
 * process that watches the content of the file does not wait for its lock.
 */
const HOLD_AND_WAIT = "mkfifo ready end; " +
  "flock -s f sh -c 'echo $PPID >holder; echo >ready; read _ <end' & " +
  "read _ <ready; tail -f f & tail=$!; " +
  'until grep -q inotify /proc/"$tail"/fdinfo/*; do :; done; ' +
  "flock f true & waiter=$!; " +
  'until grep -q -- "-> .* $waiter " /proc/locks; do :; done; ';

test(
  "cli status: lists holders and waiters, with their command lines",
  async () => {
    await onEach(
      `${HOLD_AND_WAIT} lock status f g; : >g; lock status f g; ` +
        "kill $tail; echo >end; wait; lock status f; cat holder; echo $waiter",
      ({ code, stdout, stderr }, name) => {
        assert.equal(code, 0, stderr);
        // A file that does not exist is an error, after which nothing is printed.
        const message = "portalock: cannot open g: No such file or directory\n";
        assert.equal(stderr, message, name);
        const lines = stdout.split("\n");
        const [holder, waiter] = lines.slice(-3, -1);
        const time = "\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d";
        const expected = [
          /^f: locked$/,
          new RegExp(
            `^  holds  shared     +${holder}  "flock -s f .*", started ${time}$`,
          ),
          // The holder's program has the descriptor, too, and no lock of its own.
          new RegExp(
            `^  waits  exclusive  +${waiter}  "flock f true", started ${time}$`,
          ),
          /^g: not locked$/,
          /^f: not locked$/,
        ];
        assert.equal(lines.length - 3, expected.length, stdout);
        expected.forEach((line, index) =>
          assert.match(lines[index]!, line, name)
        );
      },
    );
  },
  "flock(1)",
  "/proc",
  "inotify(7)",
);

test(
  "cli status: lists waiters of this package, and --json is JSON",
  async () => {
    await onEach(
      "mkfifo ready end; flock f sh -c 'echo >ready; read _ <end' & " +
        "read _ <ready; lock -q -w 60 f true & waiter=$!; " +
        "until lock status --json f >json; grep -q '\"exclusive\": null' json; " +
        "do :; done; echo >end; wait; cat json; echo $waiter",
      ({ stdout, stderr }, name) => {
        const end = stdout.lastIndexOf("\n", stdout.length - 2);
        const waiter = Number(stdout.slice(end));
        const [file] = JSON.parse(stdout.slice(0, end));
        assert.equal(file.path, "f", stderr);
        assert.equal(file.holders.length, 1, name);
        assert.equal(file.holders[0].exclusive, true, name);
        const [{ pid, exclusive, started, command }] = file.waiters;
        assert.deepEqual([pid, exclusive], [waiter, null], name);
        assert.match(command, / -q -w 60 f true$/, name);
        const age = Date.now() - Date.parse(started);
        assert.ok(age > -2000 && age < 120_000, `${started}`);
      },
    );
  },
  "flock(1)",
  "/proc",
  "inotify(7)",
);

test(
  "cli status: of a directory, lists the files that are locked",
  async () => {
    await onEach(
      "mkdir d; : >d/a; : >d/b; mkdir d/c; " +
        "lock d/b lock status d; lock status d",
      ({ code, stdout, stderr }, name) => {
        assert.equal(code, 0, stderr);
        assert.match(stdout, /^d\/b: locked\n {2}holds .*\n$/, name);
      },
    );
  },
  "flock(1)",
  "/proc",
);

test(
  "cli status: rejects a wrong command line, and shows its help",
  async () => {
    await onEach(
      "lock status; echo $?; lock status --unknown f; echo $?; " +
        "lock status --help | grep -c status",
      ({ stdout }, name) => assert.match(stdout, /^64\n64\n[1-9]\n$/, name),
    );
  },
  "sh(1)",
  "/proc",
);

test(
  "cli status --watch: prints each change on a pipe, also of a file that vanishes",
  async () => {
    await onEach(
      ": >f; mkfifo out; lock status --watch f >out & watcher=$!; exec 7<out; " +
        "read line <&7; echo $line; " +
        "flock f sh -c 'read line <&7; echo $line; read line <&7; rm f'; " +
        "read line <&7; echo $line; kill $watcher",
      ({ stdout, stderr }, name) => {
        const expected = "f: not locked\nf: locked\nf: not locked\n";
        assert.equal(stdout, expected, `${name} ${stderr}`);
        assert.equal(stderr, "");
      },
    );
  },
  "flock(1)",
  "/proc",
);

test(
  "cli status --watch --redis: goes on when the server was down, and knows semaphores",
  async () => {
    const port = await freePort();
    const start = `redis-server --port ${port} --bind 127.0.0.1 --save '' ` +
      ">/dev/null & server=$!; ";
    const url = `redis://127.0.0.1:${port}`;
    await onOne(
      `trap 'kill $server $watcher' EXIT; ${start}` +
        `until redis-cli -p ${port} ping >/dev/null 2>&1; do :; done; ` +
        `mkfifo out; lock status --watch --redis ${url} a ` +
        '>out 2>&1 & watcher=$!; exec 7<out; read a <&7; echo "$a"; ' +
        `kill $server; read b <&7; echo "$b"; ${start}` +
        'until test "$c" = "$a"; do read c <&7; done; echo "$c"; ' +
        `lock --redis ${url} --semaphore 2 b ` +
        `lock status --redis ${url} --semaphore 2 b`,
      ({ stdout }, name) =>
        assert.match(
          stdout,
          /^a: not locked\nportalock: .*\na: not locked\nb: 1 of 2 held\n {2}holds .*\n$/,
          name,
        ),
    );
  },
  "redis-server",
  "sh(1)",
  "/proc",
);

test(
  "cli status --semaphore, --pid-file: list the holders of these locks",
  async () => {
    await onOne(
      "lock status --semaphore 3 f; echo $?; lock status --pid-file f; " +
        "lock --semaphore 3 f lock --semaphore 3 f lock --pid-file g sh -c " +
        "'lock status --semaphore 3 f; lock status --pid-file g; " +
        "lock status --pid-file --semaphore 3 f; echo $?'",
      ({ stdout, stderr }, name) => {
        const holder = "  holds  exclusive  .*\n";
        assert.match(
          stdout,
          new RegExp(
            `^66\nf: not locked\nf: 2 of 3 held\n${holder}${holder}` +
              `g: locked\n(${holder})+64\n$`,
          ),
          `${name} ${stderr}`,
        );
        assert.match(stderr, /^portalock: cannot open f: No such file/);
      },
    );
  },
  "flock(1)",
  "/proc",
);

test(
  "cli status --redis: lists holders and waiters, with their info",
  async () => {
    await using server = await RedisServer.start();
    const url = `redis://127.0.0.1:${server.port}`;
    await onEach(
      'mkfifo ready end; redis --info \'{"host":"x"}\' a ' +
        "sh -c 'echo >ready; read _ <end' & read _ <ready; " +
        "redis -q -w 60 -s a true & " +
        `until lock status --redis ${url} a b >text; grep -q waits text; do :; done; ` +
        `lock status --redis ${url} --json a >json; ` +
        "echo >end; wait; cat text json",
      ({ stdout, stderr }, name) => {
        const start = stdout.indexOf("[");

        assert.match(
          stdout.slice(0, start),
          new RegExp(
            "^a: locked\\n" +
              `  holds  exclusive  \\S+  127.0.0.1:\\d+, connected for \\d+ s, ` +
              '\\{"host":"x"\\}\\n' +
              `  waits  shared     \\S+  127.0.0.1:\\d+, connected for \\d+ s\\n` +
              "b: not locked\\n$",
          ),
          `${name} ${stderr}`,
        );
        const [{ name: lock, holders, waiters }] = JSON.parse(
          stdout.slice(start),
        );
        assert.equal(lock, "a");
        assert.deepEqual(holders[0].info, { host: "x" });
        assert.equal(waiters.length, 1);
      },
      "--redis",
      url,
    );
  },
  "redis-server",
  "sh(1)",
  "/proc",
);
