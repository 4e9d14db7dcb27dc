/**
 * What a program needs of its runtime when it starts: arguments, standard
 * streams, an exit status.
 *
 * Deno takes 8 to 30 ms to load the first module of `node:`, or the global
 * `process`, and Bun takes 4 ms for `node:fs`. That is longer than all that the
 * command does, so it uses none before it has to wait.
 */

import { denoApi } from "./deno_api.ts";
import type { DenoApi } from "./deno_api.ts";

/** The runtime, as a program sees it. */
export interface Host {
  /** The name of the runtime and its version. */
  readonly runtime: string;
  /**
   * Whether it sets `FD_CLOEXEC` on the descriptors that it inherits, as on its
   * own.
   */
  readonly marksInherited: boolean;
  /** The arguments of the program. */
  readonly args: readonly string[];
  /** As `process.platform`. */
  readonly platform: string;
  /** As `process.arch`. */
  readonly arch: string;
  /** Returns the PID of the parent process. */
  parentPid(): number;
  /** Returns an environment variable. */
  env(name: string): string | undefined;
  /** Returns all environment variables. */
  environment(): Readonly<Record<string, string | undefined>>;
  /** Writes to standard output (1) or standard error (2). */
  write(fd: 1 | 2, text: string): void;
  isTerminal(fd: 0 | 1 | 2): boolean;
  /**
   * Returns the width of the terminal that is standard error. On Node, this makes
   * the terminal non-blocking.
   */
  columns(): number | undefined;
  /** Ends the process. */
  exit(status: number): never;
}

/** The part of the global `Deno` that a program uses. */
interface DenoProgram extends DenoApi {
  readonly args: string[];
  readonly build: { readonly os: string; readonly arch: string };
  readonly ppid: number;
  readonly env: {
    get(name: string): string | undefined;
    toObject(): Record<string, string>;
  };
  consoleSize(): { columns: number };
  readonly stdin: { isTerminal(): boolean };
  readonly stdout: DenoStream;
  readonly stderr: DenoStream;
  exit(status: number): never;
}

interface DenoStream {
  isTerminal(): boolean;
  writeSync(data: Uint8Array): number;
}

/** Names of Deno, and those of Node. */
const PLATFORMS: Readonly<Record<string, string>> = { windows: "win32" };
const ARCHITECTURES: Readonly<Record<string, string>> = {
  x86_64: "x64",
  aarch64: "arm64",
};

/** Returns the {@linkcode Host} of this process. */
export function thisHost(): Host {
  const deno = denoApi();
  return deno ? denoHost(deno as DenoProgram) : nodeHost();
}

function denoHost(deno: DenoProgram): Host {
  const { os, arch } = deno.build;
  const streams = [deno.stdin, deno.stdout, deno.stderr] as const;
  return {
    runtime: `Deno ${deno.version.deno}`,
    marksInherited: false,
    args: deno.args,
    platform: PLATFORMS[os] ?? os,
    arch: ARCHITECTURES[arch] ?? arch,
    parentPid: () => deno.ppid,
    env(name) {
      try {
        return deno.env.get(name);
      } catch {
        // The permission is missing.
        return undefined;
      }
    },
    environment: () => deno.env.toObject(),
    write(fd, text) {
      writeAll(text, (bytes) => streams[fd].writeSync(bytes));
    },
    isTerminal: (fd) => streams[fd].isTerminal(),
    columns() {
      try {
        return deno.consoleSize().columns;
      } catch {
        // It is not a terminal.
        return undefined;
      }
    },
    exit: (status) => deno.exit(status),
  };
}

function nodeHost(): Host {
  const { process } = globalThis;
  const { bun, node } = process.versions;
  return {
    runtime: bun === undefined ? `Node ${node}` : `Bun ${bun}`,
    marksInherited: true,
    args: process.argv.slice(2),
    platform: process.platform,
    arch: process.arch,
    parentPid: () => process.ppid,
    env: (name) => process.env[name],
    environment: () => process.env,
    write(fd, text) {
      const fs = process.getBuiltinModule?.("node:fs");
      if (fs) return writeAll(text, (bytes) => fs.writeSync(fd, bytes));
      // Node before 20.16. It writes to files and pipes before it returns.
      [process.stdout, process.stderr][fd - 1]?.write(text);
    },
    // To read a property such as `process.stdin` creates the stream, which makes
    // the terminal non-blocking, also for the program that inherits it.
    isTerminal(fd) {
      const tty = process.getBuiltinModule?.("node:tty");
      return tty ? tty.isatty(fd) : fd === 2 && process.stderr.isTTY;
    },
    columns: () => process.stderr.columns,
    exit: (status) => process.exit(status),
  };
}

/** How long a write waits for the reader of a pipe that is full. */
const FULL_PIPE_MS = 2;

const NEVER_WOKEN = new Int32Array(new SharedArrayBuffer(4));

/** Whether a write failed because it would block: EAGAIN, which Deno renames. */
function isFull({ name, message }: Error): boolean {
  return name === "WouldBlock" || message.includes("EAGAIN");
}

/** Whether the reader has closed the pipe: EPIPE, which Deno renames. */
function isClosed({ name, message }: Error): boolean {
  return name === "BrokenPipe" || message.includes("EPIPE");
}

/**
 * Writes all bytes. A standard stream may be a pipe that another process has
 * made non-blocking, and that is full.
 */
function writeAll(text: string, write: (bytes: Uint8Array) => number): void {
  let rest = new TextEncoder().encode(text);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(write(rest));
    } catch (error) {
      if (isClosed(error as Error)) return;
      if (!isFull(error as Error)) throw error;
      Atomics.wait(NEVER_WOKEN, 0, 0, FULL_PIPE_MS);
    }
  }
}
