/** The file that tells a PID, and nothing of locks. */

import * as fs from "node:fs";
import process from "node:process";
import { renameWithRetry } from "../core/windows_retry.ts";
import { op, runSync } from "../core/gensync.ts";
import { errorCode } from "../../ffi/types.ts";

/** More digits than any number of a process has. */
const MAX_PID_DIGITS = 16;

/** What is longer is no PID, and perhaps has no end. */
const MAX_PID_BYTES = 64;

/** Without `O_NONBLOCK` a FIFO would wait for its other end. */
const READ_FLAGS = fs.constants.O_RDONLY | (fs.constants.O_NONBLOCK ?? 0);

/**
 * Puts the PID where anybody may read it, so that nobody ever reads half of
 * it. Only the holder of the lock may do so, and blocks the thread: in a pool
 * this could go on after the thread, and with it the lock, is gone.
 */
export function writePid(path: string, mode: number): void {
  const temporary = `${path}.tmp`;
  // A killed process may have left one, or somebody put there what it is not.
  tryUnlink(temporary);
  try {
    // By its name Deno's writeFileSync() would leave out the umask.
    const fd = fs.openSync(temporary, "wx", mode);
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

/** Removes the PID file unless it tells the PID of another process. */
export function removePid(path: string): void {
  if (readPidSync(path) === process.pid) fs.unlinkSync(path);
}

/** Reads a PID file; `null` if there is none, or something else in it. */
export async function readPid(path: string): Promise<number | null> {
  try {
    const file = await fs.promises.open(path, READ_FLAGS);
    try {
      if (!(await file.stat()).isFile()) return null;
      const { bytesRead, buffer } = await file.read(
        newBuffer(),
        0,
        MAX_PID_BYTES + 1,
        0,
      );
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

function newBuffer(): Uint8Array {
  return new Uint8Array(MAX_PID_BYTES + 1);
}

/** The PID that bytes consist of, `null` if they are anything else. */
function parsePid(bytes: Uint8Array): number | null {
  if (bytes.length > MAX_PID_BYTES) return null;
  const digits = new TextDecoder("latin1").decode(bytes).trim();
  const valid = /^[0-9]+$/.test(digits) && digits.length < MAX_PID_DIGITS;
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
    // Then writing or renaming says why not.
  }
}
