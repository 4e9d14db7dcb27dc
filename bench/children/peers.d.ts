/**
 * The parts of other packages and of Deno that the benchmark uses. Most of
 * the packages do not have types, and some may not be installed.
 */

declare module "fs-ext" {
  type Operation = "ex" | "un";
  export function flock(
    fd: number,
    operation: Operation,
    callback: (error: Error | null) => void,
  ): void;
  export function flockSync(fd: number, operation: Operation): void;
}

declare module "lockfile" {
  export function lockSync(path: string): void;
  export function unlockSync(path: string): void;
}

declare module "os-lock" {
  interface Options {
    exclusive: boolean;
    immediate: boolean;
  }
  export function lock(fd: number, options: Options): Promise<void>;
  export function unlock(fd: number): Promise<void>;
}

declare module "proper-lockfile" {
  const lockfile: {
    lock(path: string, options: { retries: number }): Promise<unknown>;
    lockSync(path: string): unknown;
    unlock(path: string): Promise<void>;
    unlockSync(path: string): void;
  };
  export default lockfile;
}

declare module "redis-semaphore" {
  import type { Redis } from "ioredis";
  export class Mutex {
    constructor(
      client: Redis,
      name: string,
      options: { acquireTimeout: number },
    );
    acquire(): Promise<void>;
    release(): Promise<void>;
  }
  export class Semaphore {
    constructor(
      client: Redis,
      name: string,
      maximum: number,
      options: { acquireTimeout: number },
    );
    acquire(): Promise<void>;
    release(): Promise<void>;
  }
}

declare module "redlock" {
  import type { Redis } from "ioredis";
  interface Lock {
    unlock(): Promise<void>;
  }
  export default class Redlock {
    constructor(clients: Redis[], options: { retryCount: number });
    lock(name: string, milliseconds: number): Promise<Lock>;
  }
}

declare module "write-file-atomic" {
  export default function writeFileAtomic(
    path: string,
    text: string,
    options: { fsync: boolean },
  ): Promise<void>;
}

declare namespace Deno {
  interface FsFile {
    lock(exclusive: boolean): Promise<void>;
    lockSync(exclusive: boolean): void;
    unlockSync(): void;
    close(): void;
  }
  interface OpenOptions {
    append: boolean;
    create: boolean;
  }
  function open(path: string, options: OpenOptions): Promise<FsFile>;
  function openSync(path: string, options: OpenOptions): FsFile;
}

declare module "esbuild" {
  export function build(options: object): Promise<{
    outputFiles: { contents: Uint8Array }[];
    metafile: {
      outputs: Record<
        string,
        { inputs: Record<string, { bytesInOutput: number }> }
      >;
    };
  }>;
}
