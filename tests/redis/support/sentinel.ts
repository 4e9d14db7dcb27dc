/** A master, its replica, and sentinels that put one in the other's place. */

import { waitUntil } from "./binaries.ts";
import { RedisServer, type ServerProgram } from "./server.ts";
import type { Reply } from "./resp.ts";

export interface RedisSentinelOptions {
  /** How many sentinels, one unless given; most of them are the quorum. */
  sentinels?: number;
  /** More lines of the `redis.conf` of master and replica. */
  config?: string[];
  program?: ServerProgram;
}

/** Milliseconds of silence after which a master counts as down. */
const DOWN_AFTER_MS = 500;

export class RedisSentinel implements AsyncDisposable {
  /** What the sentinels call the master. */
  readonly name = "portalock";
  /** The master and the replica, so begun. */
  readonly servers: RedisServer[] = [];
  readonly sentinels: RedisServer[] = [];
  #master = 0;

  /** Returns once the sentinels know the replica and each other. */
  static async start(
    options: RedisSentinelOptions = {},
  ): Promise<RedisSentinel> {
    const group = new RedisSentinel();
    try {
      await group.#start(options);
      return group;
    } catch (error) {
      await group[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The master, as this object knows it from its last failover. */
  get master(): RedisServer {
    return this.servers[this.#master];
  }

  /** Who becomes the master next. */
  get replica(): RedisServer {
    return this.servers[1 - this.#master];
  }

  /** For `sentinelRootNodes` of node-redis. */
  get roots(): { host: string; port: number }[] {
    return this.sentinels.map(({ port }) => ({ host: "127.0.0.1", port }));
  }

  /**
   * Has the replica take over: the master is killed, or with `"order"` lives
   * on. Returns the new master, once every sentinel names it and it says itself
   * that it is one. Who was master before goes on as such for eight seconds,
   * if it lives; then a sentinel makes it a replica and ends its connections.
   */
  async failover(how: "kill" | "order" = "kill"): Promise<RedisServer> {
    const [old, next] = [this.master, this.replica];
    await this.#waitUntilReady();
    if (how === "kill") await old.stop();
    else await this.sentinels[0].command("SENTINEL", "FAILOVER", this.name);
    await waitUntil(async () => {
      const ports = await Promise.all(
        this.sentinels.map((sentinel) => this.#masterPort(sentinel)),
      );
      return ports.every((port) => port === next.port) &&
        await infoEquals(next, "role", "master");
    }, () => `a failover:\n${this.sentinels[0].log()}`);
    this.#master = 1 - this.#master;
    return next;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const all = [...this.sentinels, ...this.servers];
    await Promise.all(all.map((server) => server[Symbol.asyncDispose]()));
  }

  async #start(options: RedisSentinelOptions): Promise<void> {
    const { sentinels = 1, config = [], program } = options;
    const master = await RedisServer.start({ program, config });
    this.servers.push(master);
    const following = `replicaof 127.0.0.1 ${master.port}`;
    this.servers.push(
      await RedisServer.start({ program, config: [following, ...config] }),
    );
    // Sentinels look for replicas at once, and then every ten seconds.
    await this.#waitForReplica();
    const quorum = Math.floor(sentinels / 2) + 1;
    for (let i = 0; i < sentinels; i++) {
      this.sentinels.push(await this.#sentinel(quorum, program));
    }
    await this.#waitUntilReady();
  }

  #sentinel(quorum: number, program?: ServerProgram): Promise<RedisServer> {
    const { name, master } = this;
    return RedisServer.start({
      program,
      args: ["--sentinel"],
      config: [
        `sentinel monitor ${name} 127.0.0.1 ${master.port} ${quorum}`,
        `sentinel down-after-milliseconds ${name} ${DOWN_AFTER_MS}`,
        `sentinel failover-timeout ${name} 5000`,
      ],
    });
  }

  async #waitForReplica(): Promise<void> {
    await waitUntil(
      () => infoEquals(this.replica, "master_link_status", "up"),
      () => `replication:\n${this.replica.log()}`,
    );
  }

  /** Whether the sentinels could do a failover now. */
  async #waitUntilReady(): Promise<void> {
    await waitUntil(async () => {
      const all = await Promise.all(
        this.sentinels.map((sentinel) => this.#view(sentinel)),
      );
      return all.every(({ master, replica }) =>
        master.flags === "master" &&
        master["num-other-sentinels"] === String(this.sentinels.length - 1) &&
        replica.flags === "slave" && replica["master-link-status"] === "ok"
      );
    }, () => `the sentinels:\n${this.sentinels[0].log()}`);
  }

  /** What a sentinel knows of the master and of the replica that runs. */
  async #view(sentinel: RedisServer) {
    const ask = (what: string) => sentinel.command("SENTINEL", what, this.name);
    const replicas = (await ask("REPLICAS") as Reply[]).map(toRecord);
    const port = String(this.replica.port);
    return {
      master: toRecord(await ask("MASTER")),
      replica: replicas.find((replica) => replica.port === port) ?? {},
    };
  }

  async #masterPort(sentinel: RedisServer): Promise<number> {
    const command = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", this.name];
    const [, port] = await sentinel.command(...command) as string[];
    return Number(port);
  }
}

/** What a server says of itself; a sentinel that changes it hangs up for it. */
async function infoEquals(server: RedisServer, name: string, value: string) {
  const info = await server.info().catch(() => null);
  return info?.[name] === value;
}

/** A flat list of names and values. */
function toRecord(words: Reply): Record<string, string> {
  const list = words as string[];
  return Object.fromEntries(
    list.flatMap((word, i) => i % 2 === 0 ? [[word, list[i + 1]]] : []),
  );
}
