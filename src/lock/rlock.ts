/** `RLock`: a reentrant lock on a file. */

import { AsyncLocalStorage } from "node:async_hooks";
import { FileTarget } from "../target/file_target.ts";
import { Reentrant, RunScope } from "../target/reentrant.ts";
import { atEdge, atEdgeAsync } from "../core/stack.ts";
import { formatSubject, LockException } from "../core/errors.ts";
import { LockBase } from "./lock_base.ts";
import type { LockedFile } from "../file/locked_file.ts";
import { filePath } from "../options/validate.ts";
import { resolveLockOptions } from "../options/lock_options.ts";
import type { AcquireOptions } from "../options/acquire_options.ts";
import type { LockOptions } from "../options/lock_options.ts";

/**
 * A reentrant {@linkcode Lock}: its holder can acquire it again. This only
 * counts, without a system call, before `acquire` returns its promise. The last
 * release releases the lock.
 *
 * With `acquire`, the holder is the object: all tasks that use it share the
 * lock. With `run`, the holder is the task: a nested `run` starts at once, also
 * in functions that the task calls, while other tasks that use the same object
 * wait for their turn.
 *
 * @example Call a function that takes the same lock
 * ```ts
 * import { RLock } from "jsr:@x/portalock";
 *
 * const lock = new RLock("accounts.lock");
 *
 * async function transfer() {
 *   await lock.run(async () => {
 *     await withdraw();
 *     // Still locked.
 *   });
 * }
 *
 * async function withdraw() {
 *   await lock.run(() => console.log("locked, first or again"));
 * }
 *
 * await Promise.all([transfer(), transfer()]);
 * ```
 */
export class RLock extends LockBase {
  /** The path of the lock file, as the caller gave it. */
  readonly path: string;
  readonly #target: Reentrant;
  readonly #scope: AsyncLocalStorage<RunScope>;

  /**
   * Creates a lock. Does not open the file.
   *
   * @param path The file to lock, as for {@linkcode Lock}.
   * @param options As for {@linkcode Lock}.
   * @throws {TypeError} If an option or the path has the wrong type, or an
   * option is unknown.
   * @throws {RangeError} If an option or the path is out of range.
   */
  constructor(path: string | URL, options?: LockOptions) {
    const { name, settings } = atEdge(RLock, () => {
      return { name: filePath(path), settings: resolveLockOptions(options) };
    });
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
   * Acquires the lock, runs a function and releases the lock. Inside another
   * `run` of the same task, the function starts at once. If that `run` ends
   * first, the lock is held until this one ends too.
   *
   * @param body The function to run while the lock is held.
   * @param options Options that differ from those of the lock.
   * @returns The result of the function.
   * @throws What {@linkcode Lock.acquire} or the function throws.
   */
  override run<T>(
    body: (file: LockedFile) => T | Promise<T>,
    options?: AcquireOptions,
  ): Promise<T> {
    return atEdgeAsync(RLock.prototype.run, () => {
      const run = () => super.run(body, options);
      const outer = this.#scope.getStore();
      if (outer && outer.runs > 0) {
        outer.runs++;
        return this.#runIn(outer, run);
      }
      const scope = new RunScope();
      return this.#scope.run(scope, () => this.#runIn(scope, run));
    });
  }

  /**
   * Releases the latest acquisition. The last release releases the lock.
   *
   * @throws {LockException} If every acquisition is released already, or if the
   * system refuses and the lock was made with `throwOnReleaseError`.
   */
  override release(): Promise<void> {
    return atEdgeAsync(RLock.prototype.release, () => {
      this.#checkRelease();
      return this.releaseLatest();
    });
  }

  /**
   * {@linkcode RLock.release}, blocking the thread.
   *
   * @throws What {@linkcode RLock.release} throws.
   */
  override releaseSync(): void {
    return atEdge(RLock.prototype.releaseSync, () => {
      this.#checkRelease();
      super.releaseSync();
    });
  }

  /** @ignore */
  protected override startAcquire(
    options: AcquireOptions | undefined,
  ): LockedFile | Promise<LockedFile> {
    // Must not be delayed: meanwhile the outer acquisition might be released.
    return this.#target.heldByCaller
      ? this.acquireSync(options)
      : super.startAcquire(options);
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
      }: it is not held; call release() once for each acquire()`,
      { path: this.path, code: "EPERM" },
    );
  }
}
