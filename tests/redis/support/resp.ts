/** A client for RESP2, the protocol of Redis, that sends commands. */

import { Buffer } from "node:buffer";
import { connect } from "node:net";
import type { Socket } from "node:net";

/** The reply of a server. An error inside an array is a value. */
export type Reply = string | number | null | Error | Reply[];

interface Pending {
  resolve(reply: Reply): void;
  reject(error: Error): void;
}

/** One connection. Replies arrive in the order of the commands. */
export class Connection {
  #socket: Socket;
  #pending: Pending[] = [];
  #received: Buffer = Buffer.alloc(0);
  #endedWith: Error | null = null;

  private constructor(port: number) {
    this.#socket = connect({ port, host: "127.0.0.1" });
    this.#socket.setNoDelay(true);
    this.#socket.on("data", (data: Buffer) => this.#onData(data));
    this.#socket.on("error", (error) => this.#fail(error));
    this.#socket.on("close", () => this.#fail(new Error("connection ended")));
  }

  /** Connects to a server on this machine, and sends the password. */
  static async open(port: number, password?: string): Promise<Connection> {
    const connection = new Connection(port);
    if (password !== undefined) await connection.command("AUTH", password);
    return connection;
  }

  get ended(): boolean {
    return this.#endedWith !== null;
  }

  /**
   * Sends a command and returns the reply.
   *
   * @throws {Error} If the server replies with an error.
   */
  command(...args: (string | number)[]): Promise<Reply> {
    if (this.#endedWith) return Promise.reject(this.#endedWith);
    const parts = args.map((arg) =>
      `$${Buffer.byteLength(String(arg))}\r\n${arg}\r\n`
    );
    return new Promise((resolve, reject) => {
      this.#pending.push({ resolve, reject });
      this.#socket.write(`*${args.length}\r\n${parts.join("")}`);
    });
  }

  close(): void {
    this.#socket.destroy();
    this.#fail(new Error("connection closed"));
  }

  #onData(data: Buffer): void {
    this.#received = Buffer.concat([this.#received, data]);
    for (;;) {
      const parsed = parse(this.#received, 0);
      if (parsed === null) return;
      const [reply, end] = parsed;
      this.#received = this.#received.subarray(end);
      const pending = this.#pending.shift();
      if (reply instanceof Error) pending?.reject(reply);
      else pending?.resolve(reply);
    }
  }

  #fail(error: Error): void {
    this.#endedWith ??= error;
    for (const { reject } of this.#pending.splice(0)) reject(error);
  }
}

/** Returns the reply at an offset and its end, or `null` if it is incomplete. */
function parse(data: Buffer, start: number): [Reply, number] | null {
  const line = data.indexOf("\r\n", start);
  if (line < 0) return null;
  const text = data.toString("utf8", start + 1, line);
  const next = line + 2;
  switch (data.toString("latin1", start, start + 1)) {
    case "+":
      return [text, next];
    case "-":
      return [new Error(text), next];
    case ":":
      return [Number(text), next];
    case "$":
      return parseBulk(data, next, Number(text));
    case "*":
      return parseArray(data, next, Number(text));
    default:
      throw new Error(`not RESP2: ${data.toString("utf8", start, line)}`);
  }
}

function parseBulk(
  data: Buffer,
  start: number,
  length: number,
): [Reply, number] | null {
  if (length < 0) return [null, start];
  const end = start + length;
  if (data.length < end + 2) return null;
  return [data.toString("utf8", start, end), end + 2];
}

function parseArray(
  data: Buffer,
  start: number,
  length: number,
): [Reply, number] | null {
  if (length < 0) return [null, start];
  const replies: Reply[] = [];
  let next = start;
  for (let i = 0; i < length; i++) {
    const parsed = parse(data, next);
    if (parsed === null) return null;
    replies.push(parsed[0]);
    next = parsed[1];
  }
  return [replies, next];
}
