/** A master, its replica, and the sentinels that fail over between them. */

import { at } from "../../support/values.ts";
import { waitUntil } from "./binaries.ts";
import { RedisServer, type ServerProgram } from "./server.ts";
import type { Reply } from "./resp.ts";

export interface RedisSentinelOptions {
  /**
   * The number of sentinels. The quorum is their majority.
   *
   * @default 1
   */
  sentinels?: number;
  /** Additional lines of the `redis.conf` of master and replica. */
  config?: string[];
  program?: ServerProgram | undefined;
}

/** The time of silence after which a master counts as down. */
const DOWN_AFTER_MS = 500;

export class RedisSentinel implements AsyncDisposable {
  /** The name of the master in the sentinels. */
  readonly name = "portalock";
  /** The initial master and the initial replica. */
  readonly servers: RedisServer[] = [];
  readonly sentinels: RedisServer[] = [];
  #master = 0;

  /** Starts a group, and waits until the sentinels know the replica and each other. */
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

  /** The master since the last failover by this object. */
  get master(): RedisServer {
    return at(this.servers, this.#master);
  }

  /** The server that becomes the master at the next failover. */
  get replica(): RedisServer {
    return at(this.servers, 1 - this.#master);
  }

  /** The addresses for `sentinelRootNodes` of node-redis. */
  get roots(): { host: string; port: number }[] {
    return this.sentinels.map(({ port }) => ({ host: "127.0.0.1", port }));
  }

  /**
   * Makes the replica the master, and returns it when every sentinel and the
   * server itself report it. With `"kill"`, the old master is killed. With
   * `"order"`, it stays a master for eight more seconds. Then a sentinel makes
   * it a replica and ends its connections.
   */
  async failover(how: "kill" | "order" = "kill"): Promise<RedisServer> {
    const [old, next] = [this.master, this.replica];
    await this.#waitUntilReady();
    if (how === "kill") await old.stop();
    else await at(this.sentinels, 0).command("SENTINEL", "FAILOVER", this.name);
    await waitUntil(async () => {
      const ports = await Promise.all(
        this.sentinels.map((sentinel) => this.#masterPort(sentinel)),
      );
      return ports.every((port) => port === next.port) &&
        await infoEquals(next, "role", "master");
    }, () => `a failover:\n${at(this.sentinels, 0).log()}`);
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
    const replication = `replicaof 127.0.0.1 ${master.port}`;
    this.servers.push(
      await RedisServer.start({ program, config: [replication, ...config] }),
    );
    // Sentinels look for replicas at their start, and then every ten seconds.
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

  /** Waits until the sentinels can fail over. */
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
    }, () => `the sentinels:\n${at(this.sentinels, 0).log()}`);
  }

  /** Returns what a sentinel reports about the master and the running replica. */
  async #view(sentinel: RedisServer) {
    const query = (what: string) =>
      sentinel.command("SENTINEL", what, this.name);
    const replicas = (await query("REPLICAS") as Reply[]).map(toRecord);
    const port = String(this.replica.port);
    return {
      master: toRecord(await query("MASTER")),
      replica: replicas.find((replica) => replica.port === port) ?? {},
    };
  }

  async #masterPort(sentinel: RedisServer): Promise<number> {
    const command = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", this.name];
    const [, port] = await sentinel.command(...command) as string[];
    return Number(port);
  }
}

/**
 * Returns whether a line of `INFO` has this value. A sentinel that reconfigures
 * a server ends its connections, which counts as `false`.
 */
async function infoEquals(server: RedisServer, name: string, value: string) {
  const info = await server.info().catch(() => null);
  return info?.[name] === value;
}

/** Converts a flat list of names and values. */
function toRecord(words: Reply): Record<string, string> {
  const list = words as string[];
  return Object.fromEntries(
    list.flatMap((word, i) => i % 2 === 0 ? [[word, at(list, i + 1)]] : []),
  );
}
