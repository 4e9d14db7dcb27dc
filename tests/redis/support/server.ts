/** Redis servers of a test. They exit with its process, however it ends. */

import * as fs from "node:fs";
import { join } from "node:path";
import { tempDir } from "../../support/temp_dir.ts";
import { startServer } from "./server_process.ts";
import type { ServerProcess, Signal } from "./server_process.ts";
import { freePort, REDIS, waitUntil } from "./binaries.ts";
import type { ServerProgram } from "./binaries.ts";
import { Connection } from "./resp.ts";
import type { Reply } from "./resp.ts";

export { SERVERS } from "./binaries.ts";
export type { ServerProgram } from "./binaries.ts";

export interface RedisServerOptions {
  /** Additional lines of `redis.conf`. */
  config?: string[];
  /** A free port by default. */
  port?: number;
  password?: string | undefined;
  /** One of {@linkcode SERVERS}, Redis by default. */
  program?: ServerProgram | undefined;
  /** Additional arguments of the command. */
  args?: string[];
}

export class RedisServer implements AsyncDisposable {
  readonly port: number;
  readonly password: string | undefined;
  /** The working directory, which contains the log. */
  readonly folder: string;
  #program: string;
  #args: string[];
  #dir = tempDir();
  #process: ServerProcess | null = null;
  #exited: Promise<void> = Promise.resolve();
  #control: Promise<Connection> | null = null;

  private constructor(port: number, options: RedisServerOptions) {
    const { config = [], args = [], password, program = REDIS } = options;
    this.folder = this.#dir.path;
    this.port = port;
    this.password = password;
    this.#program = program.command;
    this.#args = ["redis.conf", ...args];
    const secret = password === undefined
      ? []
      : [`requirepass "${password}"`, `masterauth "${password}"`];
    const lines = [
      `port ${port}`,
      "bind 127.0.0.1",
      'save ""',
      "appendonly no",
      "repl-diskless-sync-delay 0",
      "repl-ping-replica-period 1",
      ...secret,
      ...config,
    ];
    fs.writeFileSync(
      join(this.folder, "redis.conf"),
      lines.map((line) => `${line}\n`).join(""),
    );
  }

  /** Starts a server without persistence, and waits until it replies. */
  static async start(options: RedisServerOptions = {}): Promise<RedisServer> {
    for (let attempt = 1;; attempt++) {
      const port = options.port ?? await freePort();
      const server = new RedisServer(port, options);
      try {
        await server.restart();
        return server;
      } catch (error) {
        const portInUse = /in use/.test(server.log());
        await server[Symbol.asyncDispose]();
        if (options.port || !portInUse || attempt === 5) throw error;
      }
    }
  }

  /** The URL for clients, with the password. */
  get url(): string {
    const secret = this.password === undefined
      ? ""
      : `:${encodeURIComponent(this.password)}@`;
    return `redis://${secret}127.0.0.1:${this.port}`;
  }

  /** The PID, which changes at each restart. */
  get pid(): number {
    if (!this.#process) throw new Error("the server is not running");
    return this.#process.pid;
  }

  get running(): boolean {
    return this.#process !== null;
  }

  /** Returns the content of the log. */
  log(): string {
    return fs.readFileSync(join(this.folder, "log"), "utf8");
  }

  /** Sends a command on the control connection. */
  async command(...args: (string | number)[]): Promise<Reply> {
    const control = await this.#control?.catch(() => null);
    if (!control || control.ended) {
      this.#control = Connection.open(this.port, this.password);
    }
    return (await this.#control!).command(...args);
  }

  /** Returns the lines `name:value` of `INFO` or `CLUSTER INFO`. */
  async info(...command: string[]): Promise<Record<string, string>> {
    const text = await this.command(...(command.length ? command : ["INFO"]));
    return Object.fromEntries(
      [...String(text).matchAll(/^(\w+):(.*?)\r?$/gm)].map((
        [, k, v],
      ) => [k, v]),
    );
  }

  /** Sends a signal. {@linkcode stop} also waits for the end of the process. */
  async signal(name: Signal): Promise<void> {
    if (!this.#process) throw new Error("the server is not running");
    await this.#process.signal(name);
  }

  /** Kills the process with a signal, and waits for its end. */
  async stop(signal: "SIGKILL" | "SIGTERM" = "SIGKILL"): Promise<void> {
    if (this.#process) await this.signal(signal);
    await this.#exited;
  }

  /** Stops the process if it runs, and starts another one on the same port. */
  async restart(): Promise<void> {
    await this.stop();
    const command = [this.#program, ...this.#args];
    const process = await startServer(command, this.folder);
    this.#process = process;
    this.#exited = process.ended.then(() => {
      this.#process = null;
      this.#closeControl();
    });
    await waitUntil(
      () => this.#answers(process),
      () => `the start of the server:\n${this.log()}`,
    );
  }

  /** Kills the server and removes its directory. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    this.#closeControl();
    this.#dir[Symbol.dispose]();
  }

  /** Returns whether this process, and not another one, replies on the port. */
  async #answers(process: ServerProcess): Promise<boolean> {
    if (this.#process !== process) {
      throw new Error(`the server exited:\n${this.log()}`);
    }
    const info = await this.info().catch(() => null);
    return info?.process_id === String(process.pid) && info.loading !== "1";
  }

  #closeControl(): void {
    this.#control?.then((connection) => connection.close(), () => {});
    this.#control = null;
  }
}
