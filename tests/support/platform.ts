/** Replaces parts of the library's {@linkcode Platform}. */

import { platform, setPlatformForTesting } from "../../ffi/mod.ts";
import type { Platform, PlatformFile } from "../../ffi/types.ts";

/**
 * Locks a file without the library. When it releases, only the kernel notifies
 * the waiters of this process.
 */
export function lockOutsideLibrary(path: string): { release(): void } {
  const file = platform().openSync(
    path,
    { read: true, write: true, append: true, create: true, exclusive: false },
    0o666,
  );
  file.lock(true);
  let held = true;
  return {
    release() {
      if (held) file.closeSync();
      held = false;
    },
  };
}

/** Runs a body while some members of the platform are replaced. */
export async function withPatchedPlatform<T>(
  change: (real: Platform) => Partial<Platform>,
  body: () => T | Promise<T>,
): Promise<T> {
  const real = platform();
  setPlatformForTesting({ ...real, ...change(real) });
  try {
    return await body();
  } finally {
    setPlatformForTesting(real);
  }
}

/** Runs a body while some members of every file that opens are replaced. */
export function withPatchedFiles<T>(
  change: (real: PlatformFile) => Partial<PlatformFile>,
  body: () => T | Promise<T>,
): Promise<T> {
  return withPatchedPlatform((real) => patchedFiles(real, change), body);
}

/**
 * Acquires a lock that does not count as one of this thread, so that the thread
 * waits for it as if another process held it.
 */
export function holdAsOther<T>(acquire: () => T | Promise<T>): Promise<T> {
  return withPatchedFiles(() => ({ identity: () => null }), acquire);
}

/** Returns functions that open files with some members replaced. */
export function patchedFiles(
  real: Platform,
  change: (real: PlatformFile) => Partial<PlatformFile>,
): Pick<Platform, "open" | "openSync"> {
  const changed = (file: PlatformFile): PlatformFile => {
    const other = change(file);
    const { isStillAt } = other;
    if (isStillAt) {
      other.nameAtSync ??= (path, noFollow) =>
        isStillAt(path) ? file.nameAtSync(path, noFollow) : null;
    }
    const { nameAtSync } = other;
    if (nameAtSync) {
      other.nameAt ??= nameAtSync;
      other.isStillAt ??= (path) => nameAtSync(path, true) !== null;
      other.isAtSync ??= (...at) => nameAtSync(...at) !== null;
      other.isAt ??= other.isAtSync;
    }
    return new Proxy(file, {
      get(target, name) {
        const value = Reflect.get(name in other ? other : target, name);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  };
  return {
    open(...how) {
      const file = real.open(...how);
      return file instanceof Promise ? file.then(changed) : changed(file);
    },
    openSync: (...how) => changed(real.openSync(...how)),
  };
}

/** The members of an `OsLocks` that notifies no waiter and finds no holder. */
export const noopOs = {
  upgradeIsAtomic: true,
  lockKey: (_fd?: number) => "0:0",
  isFile: () => true,
  unlink() {},
  watchClose: () => null,
  watchName: () => null,
  wakeWatchers() {},
  isLocked: () => null,
  identity: () => null,
  holders: () => null,
  machineId: () => null,
};

/** Returns an error with the fields that a failed system call sets. */
export function systemError(code: string, errno: number): Error {
  return Object.assign(new Error(`injected ${code}`), {
    code,
    errno,
    syscall: "flock",
  });
}
