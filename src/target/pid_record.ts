/** Reads and writes PID files. Knows nothing of locks. */

import * as fs from "node:fs";
import { constants as fsConstants } from "node:fs";
import process from "node:process";
import { processExists } from "../../ffi/mod.ts";
import { errorCode } from "../../ffi/types.ts";
import { formatSubject, LockException } from "../core/errors.ts";
import { op, runSync } from "../core/gensync.ts";
import { siblingPath } from "../core/paths.ts";
import { renameWithRetry } from "../core/windows_retry.ts";
import { rejectForeign } from "./temporary_file_target.ts";

/** A PID has fewer digits than this on every system. */
const MAX_PID_DIGITS = 15;

/** A longer file does not contain a PID, and may be endless (`/dev/zero`). */
const MAX_PID_BYTES = 64;

/** Without `O_NONBLOCK`, open(2) of a FIFO blocks until it has a writer. */
const READ_FLAGS = fsConstants.O_RDONLY | (fsConstants.O_NONBLOCK ?? 0);

/** Identifies a file. */
interface FileId {
  readonly dev: bigint;
  readonly ino: bigint;
}

/**
 * A PID file that this process has written. Another process may have written
 * the same number to another file.
 */
export interface WrittenPid extends FileId {
  readonly path: string;
}

/** Returns the path of the file that becomes the PID file. */
export function temporaryOf(path: string): string {
  return siblingPath(path, ".tmp");
}

/**
 * Throws if {@linkcode writePid} would destroy a file that is not a PID file: a
 * file that has a second name or other content, a FIFO or a device. Of a
 * symbolic link, only the link would be replaced. For a directory, the system
 * reports an error.
 *
 * @param name The path in messages.
 * @returns Whether there is something at the path.
 */
export function checkReplaceable(path: string, name: string): boolean {
  const stats = fs.lstatSync(path, { throwIfNoEntry: false });
  if (!stats) return false;
  if (stats.isSymbolicLink() || stats.isDirectory()) return true;
  rejectForeign(name, { isFile: stats.isFile(), nlink: stats.nlink });
  const bytes = readStart(path);
  if (bytes === null || isBlank(bytes) || parsePid(bytes) !== null) return true;
  throw new LockException(
    `Cannot lock ${formatSubject({ path: name })}: it contains something ` +
      "else than a PID (EEXIST), and this lock would replace it; remove it " +
      "or use another path",
    { path: name, code: "EEXIST" },
  );
}

/**
 * Writes the PID of this process, by a rename, so that no reader sees half of
 * it. Only the holder of the lock may call it, after
 * {@linkcode checkReplaceable}. It blocks the thread.
 *
 * @param isLeft Whether there is something at the temporary path: a killed
 * process may have left it, or it is another program's link.
 */
export function writePid(
  path: string,
  creationMode: number,
  isLeft: boolean,
): WrittenPid {
  const temporary = temporaryOf(path);
  if (isLeft) tryUnlink(temporary);
  // Deno's `writeFileSync` of a path ignores the umask.
  const fd = fs.openSync(temporary, "wx", creationMode);
  let stats: FileId;
  try {
    try {
      fs.writeFileSync(fd, String(process.pid));
      stats = fs.fstatSync(fd, { bigint: true });
    } finally {
      fs.closeSync(fd);
    }
    const rename = () => fs.renameSync(temporary, path);
    runSync(renameWithRetry(() => op({ async: rename, sync: rename })));
    return { path, dev: stats.dev, ino: stats.ino };
  } catch (error) {
    tryUnlink(temporary);
    throw error;
  }
}

/** Removes the PID file, unless it is another file or has another content. */
export function removePid({ path, dev, ino }: WrittenPid): void {
  const isWritten = (stats: FileId) => stats.dev === dev && stats.ino === ino;
  const bytes = readStart(path, isWritten);
  if (bytes && parsePid(bytes) === process.pid) fs.unlinkSync(path);
}

/**
 * Reads the PID of another process from a PID file. Returns `null` if this
 * process has that PID, no process has it, or the file cannot be read.
 */
export function readLivingPid(path: string): number | null {
  try {
    const pid = readPidSync(path);
    const found = pid !== null && pid !== process.pid && processExists(pid);
    return found ? pid : null;
  } catch {
    return null;
  }
}

/** Reads a PID file. Returns `null` if it is missing or has other content. */
export async function readPid(path: string): Promise<number | null> {
  try {
    const file = await fs.promises.open(path, READ_FLAGS);
    try {
      if (!(await file.stat()).isFile()) return null;
      const buffer = newBuffer();
      const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
      return parsePid(buffer.subarray(0, bytesRead));
    } finally {
      await file.close();
    }
  } catch (error) {
    return nullIfMissing(error);
  }
}

/** {@linkcode readPid}, blocking the thread. */
export function readPidSync(path: string): number | null {
  const bytes = readStart(path);
  return bytes && parsePid(bytes);
}

/**
 * Reads the start of a file. Returns `null` if it is missing or not a regular
 * file that is wanted.
 */
function readStart(
  path: string,
  isWanted: (stats: FileId) => boolean = () => true,
): Uint8Array | null {
  try {
    const fd = fs.openSync(path, READ_FLAGS);
    try {
      const stats = fs.fstatSync(fd, { bigint: true });
      if (!stats.isFile() || !isWanted(stats)) return null;
      const buffer = newBuffer();
      const count = fs.readSync(fd, buffer, 0, buffer.length, 0);
      return buffer.subarray(0, count);
    } finally {
      fs.closeSync(fd);
    }
  } catch (error) {
    return nullIfMissing(error);
  }
}

/** Whether a file is empty: a crash may leave zeros instead of content. */
function isBlank(bytes: Uint8Array): boolean {
  return bytes.length <= MAX_PID_BYTES &&
    bytes.every((byte) => byte === 0 || byte === 0x0a || byte === 0x20);
}

/** One byte longer than a PID file may be, to notice longer ones. */
function newBuffer(): Uint8Array {
  return new Uint8Array(MAX_PID_BYTES + 1);
}

function parsePid(bytes: Uint8Array): number | null {
  if (bytes.length > MAX_PID_BYTES) return null;
  const digits = new TextDecoder("latin1").decode(bytes).trim();
  const valid = /^[0-9]+$/.test(digits) && digits.length <= MAX_PID_DIGITS;
  return valid && Number(digits) > 0 ? Number(digits) : null;
}

function nullIfMissing(error: unknown): null {
  if (errorCode(error) === "ENOENT") return null;
  throw error;
}

function tryUnlink(path: string): void {
  try {
    fs.unlinkSync(path);
  } catch {
    // Opening or renaming the file fails next, and says why.
  }
}
