/** `BoundedSemaphore`: a lock that a limited number of holders can have. */

import { nodeCrypto } from "../core/crypto.ts";
import { SlotsTarget } from "../target/slot_target.ts";
import { childPath } from "../core/paths.ts";
import { atEdge } from "../core/stack.ts";
import { LockBase } from "./lock_base.ts";
import { checkMaximum } from "../options/validate.ts";
import { resolveSemaphoreOptions } from "../options/lock_options.ts";
import type { BoundedSemaphoreOptions } from "../options/lock_options.ts";
import { slotNames } from "../options/slot_names.ts";

/**
 * A lock that up to `maximum` holders can have at a time, in any number of
 * processes.
 *
 * Each holder locks one of `maximum` files. They have the names that Python's
 * `BoundedSemaphore` gives them, so both languages can share a semaphore. Every
 * process must pass the same `maximum`. The files stay. If a program removes
 * one of them while it is locked, the semaphore can have one holder too many.
 *
 * If a slot cannot be opened, for example because it belongs to another user,
 * the others are used. `acquire` throws the error if it cannot open any of them.
 * If the others are taken, the error is the cause of the `AlreadyLocked`. Slots
 * that exist are acquired on a read-only file system, too.
 *
 * A waiter is woken by the release of any slot. Tasks that wait through one
 * object are served in FIFO order. One object may hold several slots: each
 * `acquire` returns a file of its own, and `release` releases the latest.
 *
 * `acquire` does not wait, unless the semaphore has a `timeout` or
 * `failWhenLocked: false`.
 *
 * @example Limit downloads on this machine
 * ```ts
 * import { BoundedSemaphore } from "jsr:@x/portalock";
 *
 * const downloads = new BoundedSemaphore(4, {
 *   name: "downloads",
 *   timeout: 60_000,
 * });
 * await downloads.run(async () => {
 *   // At most four processes run this section at a time.
 * });
 * ```
 */
export class BoundedSemaphore extends LockBase {
  /** The maximum number of holders. */
  readonly maximum: number;
  /** The name, which all holders share. */
  readonly name: string;
  /** The paths of the slots: one file for each holder. */
  readonly paths: readonly string[];

  /**
   * Creates a semaphore. Does not open the files.
   *
   * @param maximum The maximum number of holders.
   * @param options The name, the directory of the files, and how to wait.
   * @throws {TypeError} If an option has the wrong type or is unknown.
   * @throws {RangeError} If an option or `maximum` is out of range.
   */
  constructor(maximum: number, options?: BoundedSemaphoreOptions) {
    const { name, directory, wait, paths, ...settings } = atEdge(
      BoundedSemaphore,
      () => resolveSlots(maximum, options),
    );
    super(new SlotsTarget(childPath(directory, name), paths, settings), wait);
    this.maximum = maximum;
    this.name = name;
    this.paths = paths;
  }
}

/**
 * A {@linkcode BoundedSemaphore} with a unique name, unless the caller gives
 * one.
 *
 * @example Pass the name to other processes
 * ```ts
 * import { NamedBoundedSemaphore } from "jsr:@x/portalock";
 *
 * const workers = new NamedBoundedSemaphore(2);
 * console.log(`other processes use the name ${workers.name}`);
 * ```
 */
export class NamedBoundedSemaphore extends BoundedSemaphore {
  /**
   * Creates a semaphore. Does not open the files.
   *
   * @param maximum The maximum number of holders.
   * @param options As for {@linkcode BoundedSemaphore}. Without `name`, a unique
   * name is generated.
   * @throws What the constructor of {@linkcode BoundedSemaphore} throws.
   */
  constructor(maximum: number, options?: BoundedSemaphoreOptions) {
    const named = atEdge(NamedBoundedSemaphore, () => {
      resolveSlots(maximum, options);
      const name = options?.name ??
        `bounded_semaphore.${nodeCrypto().randomUUID()}`;
      return { ...options, name };
    });
    super(maximum, named);
  }
}

/** Checks the options of a semaphore and names its files. */
function resolveSlots(
  maximum: number,
  options: BoundedSemaphoreOptions | undefined,
) {
  const { filenamePattern, ...settings } = resolveSemaphoreOptions(options);
  const { name, directory } = settings;
  const paths = slotNames(filenamePattern, name, checkMaximum(maximum))
    .map((slot) => childPath(directory, slot));
  return { ...settings, paths };
}
