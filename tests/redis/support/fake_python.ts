/** A participant of a lock that answers what a test wants it to. */

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

  /** Subscribes, and gives all these answers to each question. */
  static async start(
    url: string,
    channel: string,
    answers: readonly string[],
  ): Promise<FakePython> {
    const peer = new FakePython(url, channel);
    const client = peer.#client;
    await client.connect();
    await client.subscribe(channel, async (message) => {
      const { response_channel: to } = JSON.parse(message);
      for (const answer of answers) {
        await client.publish(to, answer).catch(() => {});
      }
    });
    return peer;
  }

  /** Asks who is there; waits for so many answers, and a while for others. */
  static async ping(
    url: string,
    channel: string,
    expected = 0,
  ): Promise<string[]> {
    const client = createClient({ url, RESP: 3 }).on("error", () => {});
    await client.connect();
    const answers: string[] = [];
    const responses = `${channel}-0.123`;
    await client.subscribe(responses, (message) => answers.push(message));
    await client.publish(
      channel,
      JSON.stringify({ message: "ping", response_channel: responses }),
    );
    await waitUntil(
      () => Promise.resolve(answers.length >= expected),
      () => `${expected} answers, not ${answers.length}`,
    );
    await sleep(200);
    client.destroy();
    return answers;
  }

  /** Leaves, as the dead do. */
  disconnect(): void {
    if (this.#client.isOpen) this.#client.destroy();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.disconnect();
    return Promise.resolve();
  }
}

/** A way to a server that takes so many milliseconds longer. */
export async function slowProxy(
  port: number,
  milliseconds: number,
): Promise<{ port: number } & AsyncDisposable> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    const upstream = connectTo(port, "127.0.0.1");
    for (const [from, to] of [[socket, upstream], [upstream, socket]]) {
      sockets.add(from);
      from.setNoDelay(true);
      from.on("error", () => {});
      from.on("close", () => to.destroy());
      // Only what is said to the server is late.
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
