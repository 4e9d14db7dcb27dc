/** A way to a server on which a test decides when answers arrive. */

import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";

/** One answer, or several that came together. */
type Delivery = () => void;

export class DelayProxy implements AsyncDisposable {
  readonly #server = createServer((socket) => this.#onConnection(socket));
  readonly #target: number;
  readonly #sockets = new Set<Socket>();
  readonly #heldReplies: Delivery[] = [];
  #holding = false;

  private constructor(target: number) {
    this.#target = target;
  }

  static async start(target: number): Promise<DelayProxy> {
    const gate = new DelayProxy(target);
    await new Promise<void>((resolve) =>
      gate.#server.listen(0, "127.0.0.1", resolve)
    );
    return gate;
  }

  get url(): string {
    const { port } = this.#server.address() as AddressInfo;
    return `redis://127.0.0.1:${port}`;
  }

  /** How many answers it keeps; some of them may be together. */
  get heldReplies(): number {
    return this.#heldReplies.length;
  }

  /** Keeps all answers from now on. */
  holdReplies(): void {
    this.#holding = true;
  }

  /** Lets the first answers arrive. */
  deliver(count: number): void {
    for (const answer of this.#heldReplies.splice(0, count)) answer();
  }

  /** Lets all answers arrive, now and from now on. */
  deliverAll(): void {
    this.#holding = false;
    this.deliver(this.#heldReplies.length);
  }

  #onConnection(socket: Socket): void {
    const upstream = connect(this.#target, "127.0.0.1");
    for (const [one, other] of [[socket, upstream], [upstream, socket]]) {
      this.#sockets.add(one);
      one.setNoDelay(true);
      one.on("error", () => {});
      one.on("close", () => other.destroy());
    }
    socket.on("data", (data) => void upstream.write(data));
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
