/** The claim on a file that exists only while it is locked. */

import type { NativeFile } from "../../ffi/types.ts";
import { openWhenGone } from "../core/windows_retry.ts";
import { LockUnsupported, shown } from "../core/errors.ts";
import { onExit } from "./exit_cleanup.ts";
import { unlockAndClose } from "../file/file_io.ts";
import { anchored } from "../core/paths.ts";
import { perform, quietly } from "../core/gensync.ts";
import type { Recipe } from "../core/gensync.ts";
import type { Patience } from "../wait/deadline.ts";
import type { Claim, Hold, Refused } from "./lock_target.ts";
import { FileClaim, FileHold, release } from "./file_target.ts";
import type { FileSettings } from "./file_target.ts";

/** So many files in a row cannot all have been others', who hold them. */
export const MOST_REPLACED = 10_000;

/**
 * Whoever releases unlinks the file while it is still locked. So one that was
 * opened before may be locked afterwards, though its path names another file
 * by then, or none: only a locked file that is still at its path counts. Two
 * cannot be that at a time, since only a holder unlinks.
 */
export class TemporaryClaim extends FileClaim {
  constructor(path: string, settings: FileSettings) {
    const mode = { ...settings.mode, noFollow: true };
    super(path, { ...settings, mode });
  }

  override *take(
    patience: Patience,
    waits: () => void,
  ): Recipe<Hold | Refused> {
    // The current directory may be another by the time it is removed.
    const path = anchored(this.path);
    let replaced = 0;
    const waitsForHolder = () => {
      replaced = 0;
      waits();
    };
    while (replaced++ < MOST_REPLACED) {
      const file = yield* openWhenGone(() => this.open(patience.signal, path));
      if (!(yield* this.lock(file, patience, waitsForHolder))) {
        return this.refused();
      }
      // Before that the file may be anybody's, and must not even be emptied.
      if (yield* this.isInPlace(file, path)) {
        return yield* this.ready(this.hold(file, path), path);
      }
      yield* quietly(release(file));
    }
    throw replacedTooOften(this);
  }

  /** Makes the hold of a file that is locked and in its place. */
  hold(file: NativeFile, path: string): TemporaryHold {
    return new TemporaryHold(this, file, path);
  }

  /** The file may not have existed before. */
  override async discard(file: NativeFile, path: string): Promise<void> {
    try {
      if (file.tryLock(true) && file.isAt(path)) file.unlink(path);
    } finally {
      await perform(unlockAndClose(file));
    }
  }

  *isInPlace(file: NativeFile, path: string): Recipe<boolean> {
    try {
      return file.isAt(path);
    } catch (error) {
      yield* quietly(release(file));
      throw error;
    }
  }
}

/** The error of those who met {@linkcode MOST_REPLACED} files in a row. */
export function replacedTooOften({ path }: Claim): LockUnsupported {
  return new LockUnsupported(
    `Cannot lock ${shown({ path })}: it is another file each time it is ` +
      "opened; put the lock file on another file system",
    { path },
  );
}

/** A locked file that goes with its lock. */
export class TemporaryHold extends FileHold {
  // Whoever loses the lock for a moment may come back to a dead file.
  override readonly fixed = "its file exists only while its lock is held";
  /** Where the file is, whatever the current directory is. */
  protected readonly place: string;
  readonly #forget: () => void;

  constructor(claim: FileClaim, file: NativeFile, place: string) {
    super(claim, file);
    this.place = place;
    this.#forget = onExit(this);
  }

  override *giveBack(): Recipe<void> {
    this.#forget();
    try {
      this.remove();
    } finally {
      yield* release(this.file);
    }
  }

  /** Removes the file, unless others share it or it is no longer this one. */
  protected remove(): void {
    const { file, place, exclusive } = this;
    if ((exclusive || isAlone(file)) && file.isAt(place)) file.unlink(place);
  }
}

/**
 * Whether nobody else has the file locked, which from then on this one has
 * alone. macOS leaves a shared lock that cannot become exclusive where it is:
 * two who leave together would take each other for readers that stay.
 */
function isAlone(file: NativeFile): boolean {
  if (file.tryLock(true)) return true;
  file.unlock();
  return file.tryLock(true);
}
