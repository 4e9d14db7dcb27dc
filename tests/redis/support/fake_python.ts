/** A fake Python client that sends the replies of a test. */

import { createClient } from "redis";
import { connect as connectTo, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { waitUntil } from "./binaries.ts";

/** A record as Python's portalocker 4 writes it. */
export function holderRecord(id: string, mode: string, protocol = 1): string {
  return JSON.stringify({ holder_id: id, mode, protocol, elected: false });
}

export class FakePython implements AsyncDisposable {
  readonly channel: string;
  readonly #client;

  private constructor(url: string, channel: string) {
    this.channel = channel;
    this.#client = createClient({ url, RESP: 3 }).on("error", () => {});
  }

  /** Subscribes, and sends all these replies to each ping. */
  static async start(
    url: string,
    channel: string,
    replies: readonly string[],
  ): Promise<FakePython> {
    const peer = new FakePython(url, channel);
    const client = peer.#client;
    await client.connect();
    await client.subscribe(channel, async (message) => {
      const { response_channel: to } = JSON.parse(message);
      for (const reply of replies) {
        await client.publish(to, reply).catch(() => {});
      }
    });
    return peer;
  }

  /** Sends a ping. Waits for the expected number of replies, then 200 ms more. */
  static async ping(
    url: string,
    channel: string,
    expected = 0,
  ): Promise<string[]> {
    const client = createClient({ url, RESP: 3 }).on("error", () => {});
    await client.connect();
    const replies: string[] = [];
    const replyChannel = `${channel}-0.123`;
    await client.subscribe(replyChannel, (message) => replies.push(message));
    await client.publish(
      channel,
      JSON.stringify({ message: "ping", response_channel: replyChannel }),
    );
    await waitUntil(
      () => Promise.resolve(replies.length >= expected),
      () => `${expected} replies, not ${replies.length}`,
    );
    await sleep(200);
    client.destroy();
    return replies;
  }

  /** Names the connection, as Python's portalocker does. */
  async name(name: string): Promise<void> {
    await this.#client.sendCommand(["CLIENT", "SETNAME", name]);
  }

  /** Ends the connection without unsubscribing, as a killed process does. */
  disconnect(): void {
    if (this.#client.isOpen) this.#client.destroy();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.disconnect();
    return Promise.resolve();
  }
}

/** Starts a TCP proxy that delays what the client sends. */
export async function slowProxy(
  port: number,
  milliseconds: number,
): Promise<{ port: number } & AsyncDisposable> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    const upstream = connectTo(port, "127.0.0.1");
    for (const from of [socket, upstream]) {
      const to = from === socket ? upstream : socket;
      sockets.add(from);
      from.setNoDelay(true);
      from.on("error", () => {});
      from.on("close", () => to.destroy());
      // Replies of the server are not delayed.
      const late = from === socket ? milliseconds : 0;
      from.on("data", (data) => setTimeout(() => to.write(data), late));
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
