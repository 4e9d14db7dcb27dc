/** A TCP proxy that holds the replies of a server until a test delivers them. */

import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";

/** Delivers one chunk of data, with one reply or several. */
type Delivery = () => void;

export class DelayProxy implements AsyncDisposable {
  readonly #server = createServer((socket) => this.#onConnection(socket));
  readonly #target: number;
  readonly #sockets = new Set<Socket>();
  readonly #heldReplies: Delivery[] = [];
  #holding = false;
  #cut = false;

  private constructor(target: number) {
    this.#target = target;
  }

  static async start(target: number): Promise<DelayProxy> {
    const proxy = new DelayProxy(target);
    await new Promise<void>((resolve) =>
      proxy.#server.listen(0, "127.0.0.1", resolve)
    );
    return proxy;
  }

  get url(): string {
    const { port } = this.#server.address() as AddressInfo;
    return `redis://127.0.0.1:${port}`;
  }

  /** How many chunks of replies are held. */
  get heldReplies(): number {
    return this.#heldReplies.length;
  }

  /** Holds all replies from now on. */
  holdReplies(): void {
    this.#holding = true;
  }

  /** Loses everything in both directions, without closing connections. */
  cut(): void {
    this.#cut = this.#holding = true;
  }

  /** Delivers the first chunks. */
  deliver(count: number): void {
    for (const delivery of this.#heldReplies.splice(0, count)) delivery();
  }

  /** Delivers all chunks, now and from now on. */
  deliverAll(): void {
    this.#holding = false;
    this.deliver(this.#heldReplies.length);
  }

  #onConnection(socket: Socket): void {
    const upstream = connect(this.#target, "127.0.0.1");
    for (const one of [socket, upstream]) {
      const other = one === socket ? upstream : socket;
      this.#sockets.add(one);
      one.setNoDelay(true);
      one.on("error", () => {});
      one.on("close", () => {
        if (!this.#cut) other.destroy();
      });
    }
    socket.on("data", (data) => {
      if (!this.#cut) upstream.write(data);
    });
    upstream.on("data", (data) => {
      if (this.#holding) this.#heldReplies.push(() => void socket.write(data));
      else socket.write(data);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
