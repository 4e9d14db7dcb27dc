/** The claim on a file that stays when the lock is released. */

import { native } from "../../ffi/mod.ts";
import type { LockerSettings, NativeFile } from "../../ffi/types.ts";
import { lockFailure, openFailure } from "../core/errors.ts";
import { empty, unlockAndClose } from "../file/file_io.ts";
import { by } from "../core/holders.ts";
import type { LockedMode } from "../options/open_mode.ts";
import type { LockSettings } from "../options/lock_options.ts";
import { quietly } from "../core/gensync.ts";
import type { Recipe } from "../core/gensync.ts";
import { contestFor } from "../wait/wait_queue.ts";
import type { Contest } from "../wait/wait_queue.ts";
import { worthTelling } from "../wait/deadline.ts";
import type { Patience } from "../wait/deadline.ts";
import { waitFor } from "../wait/wait_loop.ts";
import { Refused } from "./lock_target.ts";
import type { Claim, Hold } from "./lock_target.ts";

/** How a file is opened and locked. */
export type FileSettings = Omit<LockSettings, "wait">;

/** A file, and how it is opened and locked. */
export class FileClaim implements Claim {
  readonly path: string;
  readonly exclusive: boolean;
  readonly files: readonly string[];
  readonly locker: LockerSettings;
  readonly settings: FileSettings;

  constructor(path: string, settings: FileSettings) {
    this.path = path;
    this.exclusive = settings.exclusive;
    this.files = [path];
    this.locker = settings.locker;
    this.settings = settings;
  }

  *take(patience: Patience, waits: () => void): Recipe<Hold | Refused> {
    const file = yield* this.open(patience.signal);
    if (!(yield* this.lock(file, patience, waits))) return this.refused();
    const hold = new FileHold(this, file);
    return this.settings.mode.truncate ? yield* this.ready(hold) : hold;
  }

  /** Opens the file, without truncating it; `path` is where it is now. */
  *open(
    signal: AbortSignal | undefined,
    path: string = this.path,
  ): Recipe<NativeFile> {
    const { locker } = this;
    const { mode, creationMode } = this.settings;
    signal?.throwIfAborted();
    try {
      const system = native();
      const wait = () => {
        const file = system.open(path, mode, creationMode, locker);
        return file instanceof Promise
          ? unlessAborted(file, signal, (late) => this.discard(late, path))
          : file;
      };
      const block = () => system.openSync(path, mode, creationMode, locker);
      // Not by way of `step`: every acquisition comes through here.
      return (yield { wait, block }) as NativeFile;
    } catch (error) {
      if (signal?.aborted && error === signal.reason) throw error;
      throw openFailure(this, error);
    }
  }

  /** What is done with a file that was opened too late for anybody. */
  discard(file: NativeFile, _path: string): void | Promise<void> {
    return file.close();
  }

  /** Locks the file, or closes it. */
  *lock(
    file: NativeFile,
    patience: Patience,
    waits: () => void,
  ): Recipe<boolean> {
    let locked = false;
    try {
      locked = yield* waitFor(file, this.exclusive, patience, waits);
    } catch (error) {
      yield* quietly(unlockAndClose(file));
      throw lockFailure("lock", this, error, patience);
    }
    if (!locked) yield* quietly(unlockAndClose(file));
    return locked;
  }

  /** Prepares what is held, or gives it back. */
  *ready(hold: FileHold, path: string = this.path): Recipe<Hold> {
    try {
      yield* this.prepare(hold.file, path);
      return hold;
    } catch (error) {
      yield* quietly(hold.release());
      throw error;
    }
  }

  /** What happens to the locked file before anybody has it. */
  *prepare(file: NativeFile, _path: string): Recipe<void> {
    if (!this.settings.mode.truncate) return;
    try {
      yield* empty(file);
    } catch (error) {
      throw lockFailure("lock", this, error);
    }
  }

  /** The refusal that names those who hold the file. */
  refused(): Refused {
    return new Refused(({ waited }) => {
      const search = worthTelling(waited);
      const holders = native().holders(this.path, search, this.locker);
      const reason = `already locked${by(holders)}`;
      return { reason, holderPid: holders[0]?.pid };
    });
  }
}

/** A file whose lock is held. */
export class FileHold implements Hold {
  readonly path: string;
  readonly mode: LockedMode;
  readonly locker: LockerSettings;
  exclusive: boolean;
  readonly fixed?: string;
  readonly lasting?: boolean;
  readonly file: NativeFile;
  afterwards: (() => void) | undefined;
  readonly #throws: boolean;
  #released = false;

  constructor({ path, settings }: FileClaim, file: NativeFile) {
    this.path = path;
    this.mode = settings.mode;
    this.locker = settings.locker;
    this.exclusive = settings.exclusive;
    this.file = file;
    this.#throws = settings.throwOnReleaseError;
  }

  *release(): Recipe<void> {
    // By then its descriptor may name a file of somebody else.
    if (this.#released) return;
    this.#released = true;
    try {
      yield* this.giveBack();
    } catch (error) {
      if (this.#throws) throw lockFailure("release", this, error);
    } finally {
      this.afterwards?.();
    }
  }

  /** What is done to the file. */
  giveBack(): Recipe<void> {
    return release(this.file);
  }
}

/** Unlocks and closes a file, and lets others in this thread know. */
export function* release(file: NativeFile): Recipe<void> {
  let contest: Contest | undefined;
  try {
    contest = contestFor(file);
  } catch {
    // It does not even tell what file it is. Whoever waits attempts sometimes.
  }
  try {
    yield* unlockAndClose(file);
  } finally {
    contest?.ring();
  }
}

/** Lets an abort overtake a file that is slow to open; discards it later. */
function unlessAborted(
  opening: Promise<NativeFile>,
  signal: AbortSignal | undefined,
  discard: (file: NativeFile) => void | Promise<void>,
): Promise<NativeFile> {
  if (!signal) return opening;
  return new Promise((resolve, reject) => {
    const abort = () => {
      reject(signal.reason);
      opening.then(discard).catch(() => {});
    };
    // At once, not in a later turn: an abort in between would close the file
    // of somebody who has it already.
    const settled = () => signal.removeEventListener("abort", abort);
    signal.addEventListener("abort", abort, { once: true });
    opening.then((file) => {
      settled();
      resolve(file);
    }, (error) => {
      settled();
      reject(error);
    });
  });
}
