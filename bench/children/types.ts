/** The types of the children, which are JavaScript because Node 20 runs them. */

/** Nanoseconds, rounded to three digits, and how many samples have them. */
export type Histogram = [nanoseconds: number, count: number][];

/** A round trip to a Redis server. */
export type Ping = () => Promise<unknown>;

/**
 * A lock, as the scenarios use it. The methods block if the contender is
 * synchronous; otherwise they return promises.
 */
export interface Locker {
  /** Waits until the lock is acquired. */
  acquire(): unknown;
  release(): unknown;
  /** With Redis: what the lock is compared with, by name. */
  readonly pings?: Readonly<Record<string, Ping>>;
  /** With Redis: closes all connections. */
  close?(): unknown;
}

/** The locks of one client of Redis. */
export interface RedisLocks {
  lock(name: string): Locker;
  /** Makes a shared lock. */
  reader?(name: string): Locker;
  semaphore?(name: string, maximum: number): Locker;
  readonly pings: Readonly<Record<string, Ping>>;
  close(): unknown;
}

/** Connects a client of Redis. */
export type Connect = (
  url: string,
  // deno-lint-ignore no-explicit-any
  library: any,
) => RedisLocks | Promise<RedisLocks>;

/** What a scenario with many locks in Redis gets. */
export interface RedisContender {
  connect(url: string): RedisLocks | Promise<RedisLocks>;
}

/**
 * Changes a file: computes the new text from the old text, and resolves when
 * the file is written. If both texts are equal, the file stays as it is.
 */
export type Updater = (change: (text: string) => string) => Promise<unknown>;

/** A module of `lockers/`. It exports at least one of the two functions. */
export interface LockerModule {
  makeSync?(path: string, library: unknown): Locker;
  make?(path: string, library: unknown): Locker | Promise<Locker>;
}

/** A module of `updaters/`. */
export interface UpdaterModule {
  make(path: string, library: unknown, kind: string): Updater;
}

/** What a scenario gets: the contender in this process. */
export interface LockContender {
  readonly isSync: boolean;
  make(path: string): Locker | Promise<Locker>;
}

/** What the scenario `update` gets. */
export interface UpdateContender {
  make(path: string): Updater;
}

/** What this package exports, as far as it is measured. */
export interface Portalock {
  Lock: new (path: string, options: { timeout: number }) => {
    acquire(): Promise<unknown>;
    acquireSync(): unknown;
    release(): Promise<unknown>;
    releaseSync(): unknown;
  };
  updateFile(
    path: string,
    change: (text: string) => string,
    options: { timeout: number; durable: boolean },
  ): Promise<unknown>;
}

/** A lock of its Redis module, as far as it is measured. */
export interface PortalockRedisLock {
  acquire(): Promise<unknown>;
  release(): Promise<unknown>;
}

/** What its Redis module exports, as far as it is measured. */
export interface PortalockRedis {
  RedisLock: new (
    name: string,
    options: { client: unknown; timeout: number; shared?: boolean },
  ) => PortalockRedisLock;
  RedisSemaphore: new (
    name: string,
    maximum: number,
    options: { client: unknown; timeout: number },
  ) => PortalockRedisLock;
}

/** What its FFI module exports, as far as it is measured. */
export interface PortalockFfi {
  platform(): {
    openSync(
      path: string,
      mode: Readonly<Record<string, boolean>>,
      permissions: number,
    ): { lock(exclusive: boolean): void; unlock(): void; closeSync(): void };
  };
}
