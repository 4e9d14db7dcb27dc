import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createClient, createCluster, createSentinel } from "redis";
import { hasCapability } from "../support/capabilities.ts";
import { currentRuntime, fixtureCommand } from "../support/env.ts";
import { LockProcess } from "../support/processes.ts";
import { tempDir } from "../support/temp_dir.ts";
import { test } from "../support/test.ts";
import { at } from "../support/values.ts";
import { RedisCluster } from "./support/cluster.ts";
import { waitUntil } from "./support/binaries.ts";
import { RedisSentinel } from "./support/sentinel.ts";
import { RedisServer, SERVERS } from "./support/server.ts";

const PYTHON = ["Python's RedisLock", "Python's portalocker 4"] as const;

/** Returns whether a process with this PID exists, even as a zombie. */
const exists = (pid: number) =>
  process.platform === "win32"
    ? existsSync(`Z:\\proc\\${pid}`)
    : spawnSync("ps", ["-p", String(pid)]).status === 0;

/** Returns the processes whose working directory this is: a server, its guard. */
const processesIn = (path: string) =>
  spawnSync("sh", [
    "-c",
    'for i in /proc/[0-9]*; do [ "$(readlink "$i/cwd")" != "$0" ] || echo "$i"; done',
    path,
  ], { encoding: "utf8" }).stdout;

for (const program of SERVERS) {
  const { name, needs } = program;

  test(
    `a test server: ${name} replies, and leaves neither a process nor a file`,
    async () => {
      const server = await RedisServer.start({ program });
      const { pid, folder } = server;
      assert.equal(await server.command("SET", "ä", "ü\r\n"), "OK");
      assert.equal(await server.command("GET", "ä"), "ü\r\n");
      assert.deepEqual(await server.command("MGET", "ä", "b"), ["ü\r\n", null]);
      await assert.rejects(server.command("INCR", "ä"), /not an integer/);
      if (hasCapability("/proc")) assert.notEqual(processesIn(folder), "");
      await server[Symbol.asyncDispose]();
      assert.equal(exists(pid), false);
      if (hasCapability("/proc")) {
        await waitUntil(
          () => Promise.resolve(processesIn(folder) === ""),
          () => `the end of ${processesIn(folder)}`,
        );
      }
      assert.equal(existsSync(folder), false);
    },
    needs,
  );

  test(
    `a test server: ${name} restarts on its port without its data`,
    async () => {
      await using server = await RedisServer.start({ program });
      const { pid, port } = server;
      await server.command("SET", "a", "b");
      await server.restart();
      assert.equal(server.port, port);
      assert.notEqual(server.pid, pid);
      assert.equal(exists(pid), false);
      assert.equal(await server.command("GET", "a"), null);
    },
    needs,
  );
}

test("a test server: exits when its parent process is killed", async () => {
  await using starter = new LockProcess(
    fixtureCommand(currentRuntime, "start_redis_server"),
  );
  const { pid, folder } = JSON.parse(await starter.readLine());
  assert.equal(exists(pid), true);
  await starter.kill();
  await waitUntil(
    () => Promise.resolve(!exists(pid) && !existsSync(folder)),
    () => `${pid} to end`,
  );
}, "redis-server");

test(
  "a test server: continues after SIGSTOP and SIGCONT",
  async () => {
    await using server = await RedisServer.start();
    await server.command("SET", "a", "b");
    await server.signal("SIGSTOP");
    let replied = false;
    const reply = server.command("GET", "a").finally(() => replied = true);
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert.equal(replied, false);
    await server.signal("SIGCONT");
    assert.equal(await reply, "b");
  },
  "redis-server",
);

test(
  "a test server: disposing a stopped server kills it",
  async () => {
    const server = await RedisServer.start();
    const { pid } = server;
    await server.signal("SIGSTOP");
    await server[Symbol.asyncDispose]();
    assert.equal(exists(pid), false);
  },
  "redis-server",
);

test("a test server: command() rejects while the server is down", async () => {
  await using server = await RedisServer.start();
  await server.stop();
  await assert.rejects(server.command("PING"));
  await server.restart();
  assert.equal(await server.command("PING"), "PONG");
}, "redis-server");

test("a test server: requires its password, also from node-redis", async () => {
  const password = "p @ss/wörd";
  await using server = await RedisServer.start({ password });
  assert.equal(await server.command("PING"), "PONG");
  const client = createClient({ url: server.url });
  await client.connect();
  assert.equal(await client.ping(), "PONG");
  client.destroy();
  const unauthenticated = createClient({
    url: `redis://127.0.0.1:${server.port}`,
  });
  await assert.rejects(async () => {
    await unauthenticated.connect();
    await unauthenticated.ping();
  }, /NOAUTH/);
  unauthenticated.destroy();
}, "redis-server");

test("a test server: start() rejects with the log", async () => {
  const start = RedisServer.start({ config: ["no-such-setting 1"] });
  await assert.rejects(start, /no-such-setting/);
}, "redis-server");

test("a test cluster: stores keys and migrates slots", async () => {
  await using cluster = await RedisCluster.start();
  const client = createCluster({ rootNodes: [{ url: at(cluster.urls, 0) }] });
  await client.connect();
  try {
    const used = new Set<RedisServer>();
    for (let i = 0; i < 30; i++) {
      assert.equal(await client.set(`key ${i}`, String(i)), "OK");
      used.add(await cluster.nodeOf(await cluster.slotOf(`key ${i}`)));
    }
    assert.equal(used.size, 3);

    const slot = await cluster.slotOf("key 7");
    const from = await cluster.nodeOf(slot);
    const to = cluster.nodes.find((node) => node !== from)!;
    await cluster.migrate(slot, to, async () => {
      assert.equal(await client.get("key 7"), "7");
      await assert.rejects(from.command("GET", "key 7"), /^Error: ASK /);
    });
    assert.equal(await cluster.nodeOf(slot), to);
    assert.equal(await to.command("GET", "key 7"), "7");
    await assert.rejects(from.command("GET", "key 7"), /^Error: MOVED /);
    assert.equal(await client.get("key 7"), "7");
  } finally {
    client.destroy();
  }
}, "redis-server");

test("a test cluster: a replica replaces a stopped master", async () => {
  await using cluster = await RedisCluster.start({ replicas: true });
  const slot = await cluster.slotOf("a");
  const master = await cluster.nodeOf(slot);
  await master.stop();
  const replica = at(cluster.nodes, cluster.nodes.indexOf(master) + 3);
  await waitUntil(
    async () => await cluster.nodeOf(slot) === replica,
    () => "the failover to the replica",
  );
  await cluster.waitUntilReady();
  assert.equal(await replica.command("SET", "a", "b"), "OK");
  assert.ok((await cluster.masters()).includes(replica));
}, "redis-server");

for (const [how, sentinels] of [["kill", 3], ["order", 1]] as const) {
  test(`a test sentinel: ${sentinels}, failover by ${how}`, async () => {
    await using group = await RedisSentinel.start({ sentinels });
    const client = createSentinel({
      name: group.name,
      sentinelRootNodes: group.roots,
    });
    client.on("error", () => {});
    await client.connect();
    try {
      await client.set("a", "before");
      await waitUntil(
        async () => await group.replica.command("GET", "a") === "before",
        () => "replication",
      );
      const next = group.replica;
      assert.equal(await group.failover(how), next);
      assert.equal(group.master, next);
      assert.equal(await next.command("SET", "a", "after"), "OK");
      await waitUntil(
        async () => await client.get("a").catch(() => null) === "after",
        () => "node-redis to see the new master",
      );
    } finally {
      client.destroy();
    }
  }, "redis-server");
}

for (const first of [false, true]) {
  const second = !first;
  const name = (newer: boolean) => newer ? "4" : "Debian's";
  test(
    `a test server: portalocker ${name(first)} excludes ${name(second)}`,
    async () => {
      await using server = await RedisServer.start();
      await using one = LockProcess.startRedisPython(first);
      await using other = LockProcess.startRedisPython(second);
      await one.call("acquire", server.port, "a");
      assert.equal(await other.call("tryAcquire", server.port, "a"), false);
      assert.equal(await other.call("tryAcquire", server.port, "b"), true);
      await one.call("release", "a");
      assert.equal(await other.call("tryAcquire", server.port, "a"), true);
      assert.equal(await one.call("tryAcquire", server.port, "a"), false);
      await other.kill();
      await one.call("acquire", server.port, "a");
    },
    "redis-server",
    ...PYTHON,
  );
}

test(
  "a test server: readers of portalocker 4 share a lock, and writers do not",
  async () => {
    await using server = await RedisServer.start();
    await using one = LockProcess.startRedisPython(true);
    await using other = LockProcess.startRedisPython(true);
    await one.call("acquire", server.port, "a", "shared");
    assert.equal(
      await other.call("tryAcquire", server.port, "a", "shared"),
      true,
    );
    await other.call("release", "a");
    assert.equal(await other.call("tryAcquire", server.port, "a"), false);
  },
  "redis-server",
  ...PYTHON,
);

test(
  "a test server: portalocker 4 reports the loss of its lock",
  async () => {
    await using server = await RedisServer.start();
    await using python = LockProcess.startRedisPython(true);
    await python.call("acquire", server.port, "a");
    assert.equal(await python.call("lost", "a"), false);
    await server.stop();
    await waitUntil(
      async () => await python.call("lost", "a") === true,
      () => "the loss",
    );
  },
  "redis-server",
  ...PYTHON,
);

test(
  "a test server: two Python processes exclude each other",
  async () => {
    using dir = tempDir();
    for (const name of ["inside", "doomed"]) mkdirSync(join(dir.path, name));
    await using server = await RedisServer.start();
    await using one = LockProcess.startRedisPython();
    await using two = LockProcess.startRedisPython(true);
    // Only two processes, because three can acquire at the same time.
    const sections = await Promise.all(
      [one, two].map((python) =>
        python.call("soak", server.port, "a", dir.path, 2)
      ),
    );
    assert.ok(sections.every((count) => Number(count) > 0), String(sections));
  },
  "redis-server",
  ...PYTHON,
);
