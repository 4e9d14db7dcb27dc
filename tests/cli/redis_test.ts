/** The command with a lock in Redis. */

import assert from "node:assert/strict";
import { portalock, runShell } from "../support/cli.ts";
import type { Outcome } from "../support/cli.ts";
import { runtimes } from "../support/env.ts";
import type { TestRuntime } from "../support/env.ts";
import { test } from "../support/test.ts";
import { RedisServer } from "../redis/support/server.ts";
import { lockConnections } from "../redis/support/inspect.ts";

/** Runs a script on each runtime, with `lock` as the command with `--redis`. */
async function onEach(
  script: string,
  check: (outcome: Outcome, runtime: TestRuntime) => void,
  during: (server: RedisServer) => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  await using server = await RedisServer.start();
  const url = `redis://127.0.0.1:${server.port}`;
  for (const runtime of runtimes) {
    const lock = [...portalock(runtime), "--redis", url];
    const [outcome] = await Promise.all([
      runShell(`PORT=${server.port}; ${script}`, { lock }),
      during(server),
    ]);
    check(outcome, runtime);
  }
}

function testScript(name: string, script: string, expected: string): void {
  test(
    `cli with Redis: ${name}`,
    () =>
      onEach(script, ({ stdout, stderr }, runtime) => {
        assert.equal(stdout, expected, `${runtime.name}: ${stderr}`);
      }),
    "redis-server",
    "sh(1)",
    "/proc",
  );
}

testScript(
  "a lock has one holder, and the program's exit status is passed on",
  "lock a sh -c 'lock -n -E 7 a true; echo $?; lock -n b echo other; exit 4'; " +
    "echo $?",
  "7\nother\n4\n",
);
testScript(
  "-s shares the lock",
  "lock -s a sh -c 'lock -s -n a echo in; lock -n a true; echo $?'",
  "in\n1\n",
);
testScript(
  "--semaphore lets as many in as it says",
  "lock --semaphore 2 a lock --semaphore 2 a lock -n --semaphore 2 a true; echo $?",
  "1\n",
);
testScript(
  "a program that does not exist, and one that a signal ends",
  "lock a missing-program 2>&-; echo $?; lock a sh -c 'kill -TERM $$'; echo $?; " +
    "lock -n a echo free",
  "69\n143\nfree\n",
);
testScript(
  "a signal to the command is passed on to the program",
  'mkfifo ready; lock a sh -c \'trap "echo handled; exit 5" TERM; echo >ready; ' +
    "while :; do sleep 0.01; done' & read _ <ready; kill -TERM $!; wait $!; echo $?",
  "handled\n5\n",
);

/** Closes the connections of the command when its program runs. */
async function cutConnections(server: RedisServer): Promise<void> {
  while ((await server.command("GET", "running")) === null) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await server.command("DEL", "running");
  for (const { id } of await lockConnections(server)) {
    await server.command("CLIENT", "KILL", "ID", id);
  }
}

const RUNNING = 'redis-cli -p "$PORT" set running 1 >/dev/null; ';

test(
  "cli with Redis: if the lock is lost, the program gets SIGTERM, then SIGKILL",
  async () => {
    await using server = await RedisServer.start();
    const url = `redis://127.0.0.1:${server.port}`;
    for (const runtime of runtimes) {
      const lock = [...portalock(runtime), "--redis", url];
      for (
        const [killAfter, action, expected] of [
          // More than setTimeout() can wait.
          ["2500000", "sleep 0.1; echo handled; exit 0", "handled\n75\n"],
          // It ignores SIGTERM.
          ["0.05", "", "75\n"],
        ]
      ) {
        const script = `PORT=${server.port}; export PORT; ` +
          `lock --kill-after ${killAfter} a sh -c 'trap "${action}" TERM; ${RUNNING}` +
          "while :; do sleep 0.01; done'; echo $?";
        const [{ stdout, stderr }] = await Promise.all([
          runShell(script, { lock }),
          cutConnections(server),
        ]);
        assert.equal(stdout, expected, `${runtime.name}: ${stderr}`);
        assert.match(stderr, /^portalock: Lost the lock on a: /m, runtime.name);
      }
    }
  },
  "redis-server",
  "sh(1)",
  "/proc",
);

test(
  "cli with Redis: if the lock is lost, all that the program has started ends",
  async () => {
    await using server = await RedisServer.start();
    const url = `redis://127.0.0.1:${server.port}`;
    for (const runtime of runtimes) {
      const lock = [...portalock(runtime), "--redis", url];
      // p1 ignores SIGTERM, and left its session, group and parent. p2 is a
      // child of the program. bg is a child of what became the command.
      const script = `PORT=${server.port}; export PORT; ` +
        "echo 'trap \"\" TERM; echo $$ >p1; exec sleep 60' >p1.sh; " +
        "echo '(setsid sh ./p1.sh &); sleep 60 & echo $! >p2; " +
        `until test -s p1; do sleep 0.01; done; ${RUNNING}` +
        "sleep 60; echo next >n' >program; " +
        "(sleep 60 & echo $! >bg; exec lock --kill-after 0.05 a sh ./program); " +
        "echo $?; for p in p1 p2 bg; do kill -0 $(cat $p) && echo $p; done; " +
        "ls n; kill $(cat bg)";
      const [{ stdout, stderr }] = await Promise.all([
        runShell(script, { lock }),
        cutConnections(server),
      ]);
      assert.equal(stdout, "75\nbg\n", `${runtime.name}: ${stderr}`);
    }
  },
  "redis-server",
  "sh(1)",
  "/proc",
);

testScript(
  "the program of an exclusive lock gets its fencing token",
  "lock a sh -c '" +
    "a=$PORTALOCK_FENCING_TOKEN; b=$(lock b printenv PORTALOCK_FENCING_TOKEN); " +
    'test "$a" -gt 1000000 && test "$b" -gt "$a" && echo larger\'; ' +
    "lock -s a printenv PORTALOCK_FENCING_TOKEN; " +
    "lock a lock -s b printenv PORTALOCK_FENCING_TOKEN; " +
    "lock --semaphore 1 c printenv PORTALOCK_FENCING_TOKEN; echo $?",
  "larger\n1\n",
);

test(
  "cli with Redis: -n does not report a slow reply as a wait",
  async () => {
    await onEach(
      'redis-cli -p "$PORT" client pause 1300 >/dev/null; lock -n a echo got',
      ({ stdout, stderr }, { name }) =>
        assert.deepEqual([stdout, stderr], ["got\n", ""], name),
    );
  },
  "redis-server",
  "sh(1)",
  "/proc",
);

test(
  "cli with Redis: a wait says that the server cannot be reached",
  async () => {
    for (const runtime of runtimes) {
      // Nothing listens on this port.
      const url = "redis://user:secret@127.0.0.1:1";
      const { stdout } = await runShell(
        "lock a true 2>log & until grep -q REFUSED log; do sleep 0.01; done; " +
          "kill $!; wait $!; echo $?; lock -n a true 2>&-; echo $?; cat log",
        { lock: [...portalock(runtime), "--redis", url] },
      );
      assert.match(
        stdout,
        /^143\n69\nportalock: waiting for a, cannot reach redis:\/\/127.0.0.1:1 \(ECONNREFUSED\), retrying \(\d+ s\)\n$/,
        runtime.name,
      );
    }
  },
  "redis-server",
  "sh(1)",
  "/proc",
);

test(
  "cli with Redis: a wait is reported with the info of the holder",
  async () => {
    await onEach(
      'mkfifo ready end; lock --info \'{"host":"x"}\' a ' +
        "sh -c 'echo >ready; read _ <end' & read _ <ready; " +
        "lock a echo got 2>log & " +
        "until grep -q locked log 2>/dev/null; do sleep 0.01; done; echo >end; wait; cat log",
      ({ stdout, stderr }, { name }) =>
        assert.match(
          `${name}: ${stderr}${stdout}`,
          /: got\nportalock: waiting for a, locked by \{"host":"x"\} \(\d+ s\)\n$/,
        ),
    );
  },
  "redis-server",
  "sh(1)",
  "/proc",
);
