/** `RLock`: a lock that its holder may acquire again. */

import { AsyncLocalStorage } from "node:async_hooks";
import { FileTarget } from "../target/file_target.ts";
import { Reentrant, RunScope } from "../target/reentrant.ts";
import { formatSubject, LockException } from "../core/errors.ts";
import { LockBase } from "./lock_base.ts";
import type { LockedFile } from "../file/locked_file.ts";
import { filePath } from "../options/validate.ts";
import { resolveLockOptions } from "../options/lock_options.ts";
import type { AcquireOptions } from "../options/acquire_options.ts";
import type { LockOptions } from "../options/lock_options.ts";

/**
 * A reentrant {@linkcode Lock}: what holds it may acquire it again, which only
 * counts and asks the system nothing. It is released by the last release.
 *
 * With `acquire` the holder is the object: whoever has it shares the lock. With
 * `run` it is the task: `run` inside of `run` goes on at once, however deep in
 * the functions that were called, while other tasks that use the same object
 * wait for their turn.
 *
 * @example
 * ```ts
 * import { RLock } from "jsr:@x/portalock";
 *
 * const lock = new RLock("accounts.lock");
 *
 * async function transfer() {
 *   await lock.run(async () => {
 *     await withdraw();
 *     // Nobody else comes in between.
 *   });
 * }
 *
 * async function withdraw() {
 *   await lock.run(() => console.log("in, again or for the first time"));
 * }
 *
 * await Promise.all([transfer(), transfer()]);
 * ```
 */
export class RLock extends LockBase {
  /** The path of the lock file, as it was given. */
  readonly path: string;
  readonly #target: Reentrant;
  readonly #scope: AsyncLocalStorage<RunScope>;

  /**
   * Makes a lock. Nothing is opened yet.
   *
   * @param path The file to lock, as {@linkcode Lock} takes it.
   * @param options What {@linkcode Lock} takes.
   * @throws {TypeError} If an option or the path is of the wrong type, or the
   * option unknown.
   * @throws {RangeError} If an option or the path has an impossible value.
   */
  constructor(path: string | URL, options?: LockOptions) {
    const name = filePath(path);
    const settings = resolveLockOptions(options);
    const scope = new AsyncLocalStorage<RunScope>();
    const enteringScope = () => {
      const current = scope.getStore();
      return current?.entered ? undefined : current;
    };
    const target = new Reentrant(new FileTarget(name, settings), enteringScope);
    super(target, settings.wait);
    this.path = name;
    this.#target = target;
    this.#scope = scope;
  }

  /**
   * Acquires the lock, waiting if need be; what is held already is counted
   * before this returns its promise, and cannot be lost in between.
   */
  override async acquire(options?: AcquireOptions): Promise<LockedFile> {
    return this.#target.heldByCaller
      ? this.acquireSync(options)
      : await super.acquire(options);
  }

  /**
   * Runs a function while the lock is held, as {@linkcode Lock} does. Inside of
   * another `run` of the same task it goes on at once; what was started there
   * and outlives it keeps the lock until its own `run` has ended.
   */
  override async run<T>(
    body: (file: LockedFile) => T | Promise<T>,
    options?: AcquireOptions,
  ): Promise<T> {
    const outer = this.#scope.getStore();
    if (outer && outer.runs > 0) {
      outer.runs++;
      return await this.#runIn(outer, () => super.run(body, options));
    }
    const scope = new RunScope();
    const enter = () => this.#runIn(scope, () => super.run(body, options));
    return await this.#scope.run(scope, enter);
  }

  /**
   * Takes back what was acquired last; the last release ends the lock.
   *
   * @throws {LockException} If there is nothing left to release, and if the
   * system refuses and the lock was made with `throwOnReleaseError`.
   */
  override async release(): Promise<void> {
    this.#checkRelease();
    await super.release();
  }

  /** {@linkcode RLock.release}, blocking the thread. */
  override releaseSync(): void {
    this.#checkRelease();
    super.releaseSync();
  }

  async #runIn<T>(scope: RunScope, run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } finally {
      this.#target.leave(scope);
    }
  }

  #checkRelease(): void {
    if (this.latest()) return;
    throw new LockException(
      `Cannot release ${
        formatSubject(this)
      }: it was released as often as acquired`,
      { path: this.path },
    );
  }
}
