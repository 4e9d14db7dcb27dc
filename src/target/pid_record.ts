/** Reads and writes PID files. Knows nothing of locks. */

import * as fs from "node:fs";
import process from "node:process";
import { errorCode } from "../../ffi/types.ts";
import { op, runSync } from "../core/gensync.ts";
import { renameWithRetry } from "../core/windows_retry.ts";

/** A PID has fewer digits than this on every system. */
const MAX_PID_DIGITS = 15;

/** A longer file does not contain a PID, and may be endless (`/dev/zero`). */
const MAX_PID_BYTES = 64;

/** Without `O_NONBLOCK`, open(2) of a FIFO blocks until it has a writer. */
const READ_FLAGS = fs.constants.O_RDONLY | (fs.constants.O_NONBLOCK ?? 0);

/**
 * Writes the PID of this process, by a rename, so that no reader sees half of
 * it. Only the holder of the lock may call it. It blocks the thread.
 */
export function writePid(path: string, creationMode: number): void {
  const temporary = `${path}.tmp`;
  // A killed process may have left it, or it is another program's link.
  tryUnlink(temporary);
  try {
    // Deno's `writeFileSync` of a path ignores the umask.
    const fd = fs.openSync(temporary, "wx", creationMode);
    try {
      fs.writeFileSync(fd, String(process.pid));
    } finally {
      fs.closeSync(fd);
    }
    const rename = () => fs.renameSync(temporary, path);
    runSync(renameWithRetry(() => op({ async: rename, sync: rename })));
  } catch (error) {
    tryUnlink(temporary);
    throw error;
  }
}

/** Removes the PID file, unless it contains the PID of another process. */
export function removePid(path: string): void {
  if (readPidSync(path) === process.pid) fs.unlinkSync(path);
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
  try {
    const fd = fs.openSync(path, READ_FLAGS);
    try {
      if (!fs.fstatSync(fd).isFile()) return null;
      const buffer = newBuffer();
      const count = fs.readSync(fd, buffer, 0, buffer.length, 0);
      return parsePid(buffer.subarray(0, count));
    } finally {
      fs.closeSync(fd);
    }
  } catch (error) {
    return nullIfMissing(error);
  }
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
