/** A cluster of Redis servers, created by the commands of `redis-cli`. */

import { at } from "../../support/values.ts";
import { freePort, waitUntil } from "./binaries.ts";
import { RedisServer, type ServerProgram } from "./server.ts";

const SLOTS = 16_384;
const MASTERS = 3;

/** The timeout of `MIGRATE`. */
const MOVE_TIMEOUT_MS = 10_000;

export interface RedisClusterOptions {
  /** Whether each master has a replica. */
  replicas?: boolean;
  /** Additional lines of each `redis.conf`. */
  config?: string[];
  program?: ServerProgram | undefined;
}

export class RedisCluster implements AsyncDisposable {
  /** The initial masters in the order of their slots, then their replicas. */
  readonly nodes: RedisServer[] = [];

  /** Starts three masters that share the slots, and waits until they are ready. */
  static async start(options: RedisClusterOptions = {}): Promise<RedisCluster> {
    const cluster = new RedisCluster();
    try {
      await cluster.#start(options);
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  get urls(): string[] {
    return this.nodes.map(({ url }) => url);
  }

  /** Returns the slot of a key or of a sharded channel. */
  async slotOf(key: string): Promise<number> {
    const node = at(this.#runningNodes(), 0);
    return Number(await node.command("CLUSTER", "KEYSLOT", key));
  }

  /** Returns the master of a slot, as one node reports it. */
  async nodeOf(
    slot: number,
    seenBy: RedisServer = at(this.#runningNodes(), 0),
  ): Promise<RedisServer> {
    const ranges = await seenBy.command("CLUSTER", "SLOTS") as [
      number,
      number,
      [string, number, string],
    ][];
    const range = ranges.find(([first, last]) => first <= slot && slot <= last);
    const node = this.nodes.find(({ port }) => port === range?.[2][1]);
    if (!node) throw new Error(`slot ${slot} does not have a master`);
    return node;
  }

  /** Returns the nodes that are masters now. */
  async masters(): Promise<RedisServer[]> {
    const nodes = this.#runningNodes();
    const roles = await Promise.all(nodes.map((node) => node.command("ROLE")));
    return nodes.filter((_, i) => (roles[i] as string[])[0] === "master");
  }

  /**
   * Moves a slot and its keys to another master, and waits until every master
   * reports it. Calls `between` when the keys have moved and the slot has not.
   */
  async migrate(
    slot: number,
    to: RedisServer,
    between: () => void | Promise<void> = () => {},
  ): Promise<void> {
    const from = await this.nodeOf(slot);
    if (from === to) return;
    const [source, target] = await Promise.all([idOf(from), idOf(to)]);
    await to.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source);
    await from.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target);
    await moveKeys(slot, from, to);
    await between();
    await moveKeys(slot, from, to);
    const masters = await this.masters();
    const others = masters.filter((node) => node !== from && node !== to);
    for (const node of [to, from, ...others]) {
      await node.command("CLUSTER", "SETSLOT", slot, "NODE", target);
    }
    await this.#waitForMaster(slot, to, masters);
  }

  /** Waits until every running node reports that the cluster is ready. */
  async waitUntilReady(): Promise<void> {
    const nodes = this.#runningNodes();
    await waitUntil(async () => {
      const states = await Promise.all(
        nodes.map((node) => node.info("CLUSTER", "INFO")),
      );
      return states.every((state) =>
        state.cluster_state === "ok" &&
        Number(state.cluster_known_nodes) === this.nodes.length &&
        Number(state.cluster_slots_ok) === SLOTS
      );
    }, () => "a cluster that is ready");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.nodes.map((node) => node[Symbol.asyncDispose]()));
  }

  async #start({ replicas, config, program }: RedisClusterOptions) {
    const count = replicas ? 2 * MASTERS : MASTERS;
    const buses: number[] = [];
    for (let i = 0; i < count; i++) {
      const bus = await freePort();
      const node = await RedisServer.start({
        program,
        config: [
          "cluster-enabled yes",
          "cluster-node-timeout 2000",
          "cluster-announce-ip 127.0.0.1",
          `cluster-port ${bus}`,
          ...config ?? [],
        ],
      });
      buses.push(bus);
      this.nodes.push(node);
      await node.command("CLUSTER", "SET-CONFIG-EPOCH", i + 1);
    }
    const firstSlot = (master: number) => Math.floor(master * SLOTS / MASTERS);
    for (const [i, master] of this.nodes.slice(0, MASTERS).entries()) {
      const slots = [firstSlot(i), firstSlot(i + 1) - 1];
      await master.command("CLUSTER", "ADDSLOTSRANGE", ...slots);
    }
    await this.#meet(buses);
    await this.waitUntilReady();
    for (const [i, replica] of this.nodes.slice(MASTERS).entries()) {
      await replicate(replica, at(this.nodes, i));
    }
    if (replicas) await this.#waitForReplicas();
  }

  /** Introduces every node to every other, because gossip takes seconds. */
  async #meet(buses: number[]): Promise<void> {
    for (const node of this.nodes) {
      for (const [i, { port }] of this.nodes.entries()) {
        if (node.port === port) continue;
        const bus = at(buses, i);
        await node.command("CLUSTER", "MEET", "127.0.0.1", port, bus);
      }
    }
  }

  /** Waits until every node knows all replicas, and these are synchronized. */
  async #waitForReplicas(): Promise<void> {
    await waitUntil(async () => {
      const all = await Promise.all(this.nodes.map(async (node, i) => {
        const slots = await node.command("CLUSTER", "SLOTS") as unknown[][];
        const { master_link_status } = await node.info();
        return slots.every((range) => range.length === 4) &&
          (i < MASTERS || master_link_status === "up");
      }));
      return all.every(Boolean);
    }, () => "replicas");
  }

  async #waitForMaster(slot: number, on: RedisServer, nodes: RedisServer[]) {
    await waitUntil(async () => {
      const seen = await Promise.all(
        nodes.map((node) => this.nodeOf(slot, node)),
      );
      return seen.every((node) => node === on);
    }, () => `every node to report the master of slot ${slot}`);
  }

  #runningNodes(): RedisServer[] {
    return this.nodes.filter(({ running }) => running);
  }
}

async function idOf(node: RedisServer): Promise<string> {
  return String(await node.command("CLUSTER", "MYID"));
}

async function replicate(replica: RedisServer, master: RedisServer) {
  await replica.command("CLUSTER", "REPLICATE", await idOf(master));
}

async function moveKeys(slot: number, from: RedisServer, to: RedisServer) {
  for (;;) {
    const keys = await from.command("CLUSTER", "GETKEYSINSLOT", slot, 100);
    const names = keys as string[];
    if (names.length === 0) return;
    const there = ["127.0.0.1", to.port, "", 0, MOVE_TIMEOUT_MS];
    await from.command("MIGRATE", ...there, "KEYS", ...names);
  }
}
