/** Semaphores: locks that so many may hold at a time. */

import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { SlotsTarget } from "../target/slot_target.ts";
import { LockBase } from "./lock_base.ts";
import { checkMaximum } from "../options/validate.ts";
import { resolveSemaphoreOptions } from "../options/lock_options.ts";
import type { BoundedSemaphoreOptions } from "../options/lock_options.ts";
import { slotNames } from "../options/slot_names.ts";

/**
 * A lock that up to `maximum` may hold at a time, in however many processes.
 *
 * Each holder has one of `maximum` files locked, which have the names that
 * Python's `BoundedSemaphore` gives them; so both share one semaphore. Everybody
 * must name the same `maximum`. The files stay; while one is missing, because
 * somebody cleaned the directory up, one holder too many can come in.
 *
 * A waiter is woken by whichever slot is released. Tasks that wait through one
 * object are served first come, first served. One object may hold several
 * slots: each `acquire` gives a file of its own, and `release` frees the latest.
 *
 * It fails at once when all slots are taken, unless a `timeout` or
 * `failWhenLocked: false` is given.
 *
 * @example
 * ```ts
 * import { BoundedSemaphore } from "jsr:@x/portalock";
 *
 * const downloads = new BoundedSemaphore(4, {
 *   name: "downloads",
 *   timeout: 60_000,
 * });
 * await downloads.run(async () => {
 *   // At most four of us on this machine.
 * });
 * ```
 */
export class BoundedSemaphore extends LockBase {
  /** How many may hold it at a time. */
  readonly maximum: number;
  /** What all who share it call it. */
  readonly name: string;
  /** The files that are locked, one for each holder. */
  readonly paths: readonly string[];

  /**
   * Makes a semaphore. Nothing is opened yet.
   *
   * @param maximum How many may hold it at a time.
   * @param options What it is called, where its files are, how to wait.
   * @throws {TypeError} If an option is of the wrong type or unknown.
   * @throws {RangeError} If an option or `maximum` has an impossible value.
   */
  constructor(maximum: number, options?: BoundedSemaphoreOptions) {
    const { name, directory, filenamePattern, wait, ...settings } =
      resolveSemaphoreOptions(options);
    const paths = slotNames(filenamePattern, name, checkMaximum(maximum))
      .map((slot) => join(directory, slot));
    super(new SlotsTarget(join(directory, name), paths, settings), wait);
    this.maximum = maximum;
    this.name = name;
    this.paths = paths;
  }
}

/**
 * A {@linkcode BoundedSemaphore} whose name is given or made up, never the one
 * that all who give none share.
 *
 * @example
 * ```ts
 * import { NamedBoundedSemaphore } from "jsr:@x/portalock";
 *
 * const workers = new NamedBoundedSemaphore(2);
 * console.log(`others join as ${workers.name}`);
 * ```
 */
export class NamedBoundedSemaphore extends BoundedSemaphore {
  /**
   * Makes a semaphore. Nothing is opened yet.
   *
   * @param maximum How many may hold it at a time.
   * @param options As {@linkcode BoundedSemaphore} takes them; without `name`
   * one is made up that nobody else has.
   */
  constructor(maximum: number, options?: BoundedSemaphoreOptions) {
    resolveSemaphoreOptions(options);
    const name = options?.name ?? `bounded_semaphore.${randomUUID()}`;
    super(maximum, { ...options, name });
  }
}
