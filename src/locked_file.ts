/** The open, locked file that every acquisition hands out. */

import type { NativeFile } from "../ffi/types.ts";
import { Gate } from "./gate.ts";
import { OpenFile } from "./open_file.ts";
import type { LockedMode } from "./open_mode.ts";
import type { Recipe } from "./recipe.ts";

/** What a {@linkcode LockedFile} is made of. */
export interface LockedFileInit {
  path: string;
  file: NativeFile;
  mode: LockedMode;
  /** Ends the acquisition; the file is no longer used then. */
  release: () => Recipe<void>;
}

const CLOSED = "it is closed and its lock released";

/**
 * An open file whose lock is held. It follows `Deno.FsFile`, on every runtime.
 *
 * The file has one position, the system's own: reads and writes start there
 * and move it; in the modes `"a"` and `"a+"` every write goes to the end.
 *
 * Closing or disposing the file **is** releasing the lock. Nothing else is: a
 * stream that ends leaves both alone. Afterwards every operation throws a
 * {@linkcode LockException} with the code `"EBADF"`. Operations that are still
 * under way finish first, under the lock.
 *
 * @example
 * ```ts
 * import { Lock } from "jsr:@x/portalock";
 *
 * await using file = await new Lock("visits.txt", { mode: "a+" }).acquire();
 * const visits = Number(await file.readText()) + 1;
 * await file.replaceContents(String(visits));
 * ```
 */
export class LockedFile extends OpenFile
  implements AsyncDisposable, Disposable {
  readonly #gate: Gate;
  readonly #release: () => Recipe<void>;

  /** @ignore Made by the lock classes. */
  constructor({ path, file, mode, release }: LockedFileInit) {
    const gate = new Gate();
    super({ path, file, mode, gate });
    this.#gate = gate;
    this.#release = release;
  }

  /**
   * Releases the lock and closes the file, after the operations that are still
   * under way. Closing again does nothing.
   *
   * @throws {LockException} If the system refuses and the lock was made with
   * `throwOnReleaseError`. The lock is gone all the same.
   */
  close(): Promise<void> {
    return this.#gate.close(CLOSED, this.#release);
  }

  /**
   * {@linkcode LockedFile.close}, blocking the thread. Asynchronous operations
   * that are still under way cannot finish meanwhile: the lock is released
   * when they have.
   */
  closeSync(): void {
    this.#gate.closeSync(CLOSED, this.#release);
  }

  /** Does what {@linkcode LockedFile.close} does. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Does what {@linkcode LockedFile.closeSync} does. */
  [Symbol.dispose](): void {
    this.closeSync();
  }
}
