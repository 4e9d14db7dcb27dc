/** The claim on a file that exists only while it is locked. */

import type { PlatformFile } from "../../ffi/types.ts";
import { openWithRetry } from "../core/windows_retry.ts";
import { formatSubject, LockUnsupported } from "../core/errors.ts";
import { releaseOnExit } from "./exit_cleanup.ts";
import { unlockAndClose } from "../file/file_io.ts";
import { absolute } from "../core/paths.ts";
import { ignoreErrors, runAsync } from "../core/gensync.ts";
import type { Gen } from "../core/gensync.ts";
import type { Deadline } from "../wait/deadline.ts";
import type { Busy, Hold, LockTarget } from "./lock_target.ts";
import { FileTarget, HeldFile, unlockAndWake } from "./file_target.ts";
import type { FileSettings } from "./file_target.ts";

/** So many files in a row cannot all have been others', who hold them. */
export const MAX_REPLACED = 10_000;

/**
 * Whoever releases unlinks the file while it is still locked. So one that was
 * opened before may be locked afterwards, though its path names another file
 * by then, or none: only a locked file that is still at its path counts. Two
 * cannot be that at a time, since only a holder unlinks.
 */
export class TemporaryFileTarget extends FileTarget {
  constructor(path: string, settings: FileSettings) {
    const mode = { ...settings.mode, noFollow: true };
    super(path, { ...settings, mode });
  }

  override *acquire(
    deadline: Deadline,
    waits: () => void,
  ): Gen<Hold | Busy> {
    // The current directory may be another by the time it is removed.
    const path = absolute(this.path);
    let replaced = 0;
    const waitsForHolder = () => {
      replaced = 0;
      waits();
    };
    while (replaced++ < MAX_REPLACED) {
      const file = yield* openWithRetry(() => this.open(deadline.signal, path));
      if (!(yield* this.lock(file, deadline, waitsForHolder))) {
        return this.busy();
      }
      // Before that the file may be anybody's, and must not even be emptied.
      if (yield* this.isStillAt(file, path)) {
        return yield* this.finishAcquire(this.toHeld(file, path), path);
      }
      yield* ignoreErrors(unlockAndWake(file));
    }
    throw replacedTooOften(this);
  }

  /** Makes the hold of a file that is locked and in its place. */
  toHeld(file: PlatformFile, path: string): HeldTemporaryFile {
    return new HeldTemporaryFile(this, file, path);
  }

  /** The file may not have existed before. */
  override async discardLateOpen(
    file: PlatformFile,
    path: string,
  ): Promise<void> {
    try {
      if (file.tryLock(true) && file.isStillAt(path)) file.unlink(path);
    } finally {
      await runAsync(unlockAndClose(file));
    }
  }

  *isStillAt(file: PlatformFile, path: string): Gen<boolean> {
    try {
      return file.isStillAt(path);
    } catch (error) {
      yield* ignoreErrors(unlockAndWake(file));
      throw error;
    }
  }
}

/** The error of those who met {@linkcode MAX_REPLACED} files in a row. */
export function replacedTooOften({ path }: LockTarget): LockUnsupported {
  return new LockUnsupported(
    `Cannot lock ${
      formatSubject({ path })
    }: it is another file each time it is ` +
      "opened; put the lock file on another file system",
    { path },
  );
}

/** A locked file that goes with its lock. */
export class HeldTemporaryFile extends HeldFile {
  // Whoever loses the lock for a moment may come back to a dead file.
  override readonly notRelockable =
    "its file exists only while its lock is held";
  /** Where the file is, whatever the current directory is. */
  protected readonly place: string;
  readonly #forget: () => void;

  constructor(target: FileTarget, file: PlatformFile, place: string) {
    super(target, file);
    this.place = place;
    this.#forget = releaseOnExit(this);
  }

  override *unlockFile(): Gen<void> {
    this.#forget();
    try {
      this.remove();
    } finally {
      yield* unlockAndWake(this.file);
    }
  }

  /** Removes the file, unless others share it or it is no longer this one. */
  protected remove(): void {
    const { file, place, exclusive } = this;
    if ((exclusive || isOnlyReader(file)) && file.isStillAt(place)) {
      file.unlink(place);
    }
  }
}

/**
 * Whether nobody else has the file locked, which from then on this one has
 * alone. macOS leaves a shared lock that cannot become exclusive where it is:
 * two who leave together would take each other for readers that stay.
 */
function isOnlyReader(file: PlatformFile): boolean {
  if (file.tryLock(true)) return true;
  file.unlock();
  return file.tryLock(true);
}
