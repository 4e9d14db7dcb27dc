/**
 * Keeps the order of the atomic writes of one thread to one destination: the
 * last call wins.
 *
 * Each call gets a number. When a call publishes its file, its number is
 * remembered for the destination. A call with a smaller number then removes its
 * own file, and succeeds, because its content would have been replaced at once.
 * An error of one call does not affect another one, because a call that fails
 * publishes nothing:
 *
 * - A.1 `writeAtomic("a", "first")` writes its temporary file.
 * - B.2 `writeAtomic("a", "second")` writes a temporary file, too, and renames
 *   it to `a`.
 * - A.3 Without this order, the first call renames its file to `a` now.
 *
 * A call has to wait while another one publishes, because two threads of the
 * pool would rename in any order:
 *
 * - A.1 The first call passes its rename to the pool.
 * - B.2 The second call waits for it.
 * - A.3 The pool renames the file of the first call.
 * - B.4 The second call renames its file.
 *
 * A call that blocks the thread cannot wait for the pool. It takes the
 * temporary file out of its way, by a rename. Either the rename of the first
 * call comes before that, or it fails:
 *
 * - A.1 `writeAtomic("a", "first")` passes its rename to the pool.
 * - B.2 `writeAtomicSync("a", "second")` renames the temporary file of the
 *   first call to another temporary name.
 * - A.3 The pool fails to rename it, with `ENOENT`.
 * - B.4 The second call renames its file to `a`.
 * - A.5 The first call finds that it was overtaken, and removes its file. If
 *   step B.4 failed, it publishes its file now.
 *
 * Without `replace`, link(2) decides: a later call fails with `EEXIST`, and so
 * does an earlier one that is late.
 *
 * A call that overwrites the file in place waits for the lock of the file. It
 * gives up its turn for the wait, because the holder may wait for its own turn:
 *
 * - A.1 `updateFile` locks the file.
 * - B.2 `writeAtomic` has its turn, gives it up, and waits for the lock.
 * - A.3 `updateFile` overwrites the file in its turn, and releases the lock.
 * - B.4 `writeAtomic` has the lock, and finds whether A.3 has overtaken it.
 *
 * The numbers are forgotten when no call can need them anymore.
 *
 * @module
 */

import { basename } from "node:path";
import { shared } from "../../ffi/mod.ts";
import { errorCode } from "../../ffi/types.ts";
import { isAsync, op } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import type { DirectoryId } from "./fs_ops.ts";
import { renameTempFileSync, unlinkTempFile } from "./temp_file.ts";
import type { TempFile } from "./temp_file.ts";

/** What to publish, and where. */
export interface Publication {
  readonly tempFile: TempFile;
  /** Equal for equal destinations. */
  readonly key: string;
  /** The number of the call. */
  readonly call: number;
  /** Whether the file replaces another one. */
  readonly replace: boolean;
}

/** The turn of a call to publish. */
export interface Turn {
  /** Returns whether a later call has published the destination. */
  isOvertaken(): boolean;
  /** Lets other calls publish, because this one waits for a lock. */
  yield(): void;
}

const order = shared("writes", () => ({
  lastCall: 0,
  /** The calls that have not ended, oldest first. */
  calls: new Set<number>(),
  /**
   * The last call that has published a destination. It is remembered until all
   * calls up to the number `until` have ended, which increases from one entry
   * to the next.
   */
  published: new Map<string, { call: number; until: number }>(),
  /** The publications in progress, by destination. */
  inProgress: new Map<string, InProgress>(),
}));

/** A publication that the thread pool carries out. */
class InProgress {
  readonly ended: Promise<void>;
  end: () => void = () => {};
  /** Whether a blocking call has renamed the temporary file. */
  withdrawn = false;
  readonly #tempFile: TempFile;

  constructor(tempFile: TempFile) {
    this.#tempFile = tempFile;
    this.ended = new Promise((resolve) => this.end = resolve);
  }

  withdraw(): void {
    try {
      renameTempFileSync(this.#tempFile);
      this.withdrawn = true;
    } catch {
      // The file is published already, or its publication will fail, too.
    }
  }
}

/** Returns a key that is equal for all paths of one destination. */
export function orderKey(
  destination: { readonly path: string },
  { dev, ino }: DirectoryId,
): string {
  const { path } = destination;
  return ino === "" ? path : `${dev}:${ino}:${basename(path)}`;
}

/** Numbers a call at once. Runs it when the result is run. */
export function inOrderOfCalls(run: (call: number) => Gen<void>): Gen<void> {
  const call = ++order.lastCall;
  order.calls.add(call);
  return runCall(call, run);
}

function* runCall(
  call: number,
  run: (call: number) => Gen<void>,
): Gen<void> {
  try {
    yield* run(call);
  } finally {
    endCall(call);
  }
}

function endCall(call: number): void {
  const { calls, published } = order;
  calls.delete(call);
  const [oldest = Infinity] = calls;
  for (const [key, { until }] of published) {
    if (until >= oldest) return;
    published.delete(key);
  }
}

/**
 * Publishes a file in the order of the calls. Removes the temporary file if a
 * later call has published the destination.
 *
 * @param publish Publishes the file, unless it is overtaken while it waits.
 * Returns `false` if the destination exists.
 * @returns `false` if the destination exists and may not be replaced.
 */
export function* publishInOrder(
  publication: Publication,
  publish: (turn: Turn) => Gen<boolean>,
): Gen<boolean> {
  const { key, tempFile } = publication;
  const waits = yield* isAsync();
  for (;;) {
    yield* waits ? waitForOther(key) : withdrawOther(key);
    if (isOvertaken(publication)) {
      yield* unlinkTempFile(tempFile);
      return true;
    }
    const own = waits ? begin(key, tempFile) : null;
    try {
      const visible = yield* publish({
        isOvertaken: () => isOvertaken(publication),
        yield: () => own && end(key, own),
      });
      if (visible) remember(publication);
      return visible;
    } catch (error) {
      if (!own?.withdrawn || errorCode(error) !== "ENOENT") throw error;
    } finally {
      if (own) end(key, own);
    }
  }
}

function begin(key: string, tempFile: TempFile): InProgress {
  const own = new InProgress(tempFile);
  order.inProgress.set(key, own);
  return own;
}

function end(key: string, own: InProgress): void {
  if (order.inProgress.get(key) === own) order.inProgress.delete(key);
  own.end();
}

function* waitForOther(key: string): Gen<void> {
  for (let other; (other = order.inProgress.get(key)) !== undefined;) {
    const { ended } = other;
    yield* op({ async: () => ended, sync: () => {} });
  }
}

// deno-lint-ignore require-yield -- does not have a step that differs
function* withdrawOther(key: string): Gen<void> {
  order.inProgress.get(key)?.withdraw();
}

function isOvertaken({ key, call, replace }: Publication): boolean {
  return replace && (order.published.get(key)?.call ?? 0) > call;
}

function remember({ key, call }: Publication): void {
  const earlier = order.published.get(key)?.call ?? 0;
  // Moves the entry behind those of earlier publications.
  order.published.delete(key);
  order.published.set(key, {
    call: Math.max(earlier, call),
    until: order.lastCall,
  });
}

/** For tests: how many destinations are remembered. */
export function rememberedDestinations(): number {
  return order.published.size;
}
