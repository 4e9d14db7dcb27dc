/** A way to a server on which a test decides when answers arrive. */

import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";

/** One answer, or several that came together. */
type Answer = () => void;

export class Gate implements AsyncDisposable {
  readonly #server = createServer((socket) => this.#connected(socket));
  readonly #target: number;
  readonly #sockets = new Set<Socket>();
  readonly #kept: Answer[] = [];
  #closed = false;

  private constructor(target: number) {
    this.#target = target;
  }

  static async to(target: number): Promise<Gate> {
    const gate = new Gate(target);
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
  get kept(): number {
    return this.#kept.length;
  }

  /** Keeps all answers from now on. */
  close(): void {
    this.#closed = true;
  }

  /** Lets the first answers arrive. */
  pass(count: number): void {
    for (const answer of this.#kept.splice(0, count)) answer();
  }

  /** Lets all answers arrive, now and from now on. */
  open(): void {
    this.#closed = false;
    this.pass(this.#kept.length);
  }

  #connected(socket: Socket): void {
    const onwards = connect(this.#target, "127.0.0.1");
    for (const [one, other] of [[socket, onwards], [onwards, socket]]) {
      this.#sockets.add(one);
      one.setNoDelay(true);
      one.on("error", () => {});
      one.on("close", () => other.destroy());
    }
    socket.on("data", (data) => void onwards.write(data));
    onwards.on("data", (data) => {
      if (this.#closed) this.#kept.push(() => void socket.write(data));
      else socket.write(data);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
