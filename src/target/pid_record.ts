/** The file that tells a PID, and nothing of locks. */

import * as fs from "node:fs";
import process from "node:process";
import { renameWhenFree } from "../core/windows_retry.ts";
import { performSync, step } from "../core/gensync.ts";

/** More digits than any number of a process has. */
const TOO_MANY_DIGITS = 16;

/** What is longer is no PID, and perhaps has no end. */
const LONGEST = 64;

/** Without `O_NONBLOCK` a FIFO would wait for its other end. */
const READING = fs.constants.O_RDONLY | (fs.constants.O_NONBLOCK ?? 0);

/**
 * Puts the PID where anybody may read it, so that nobody ever reads half of
 * it. Only the holder of the lock may do so, and blocks the thread: in a pool
 * this could go on after the thread, and with it the lock, is gone.
 */
export function publishPid(path: string, mode: number): void {
  const temporary = `${path}.tmp`;
  // A killed process may have left one, or somebody put there what it is not.
  removeIfPossible(temporary);
  try {
    // By its name Deno's writeFileSync() would leave out the umask.
    const fd = fs.openSync(temporary, "wx", mode);
    try {
      fs.writeFileSync(fd, String(process.pid));
    } finally {
      fs.closeSync(fd);
    }
    const rename = () => fs.renameSync(temporary, path);
    performSync(renameWhenFree(() => step(rename, rename)));
  } catch (error) {
    removeIfPossible(temporary);
    throw error;
  }
}

/** Removes the PID file unless it tells the PID of another process. */
export function removePid(path: string): void {
  if (storedPidSync(path) === process.pid) fs.unlinkSync(path);
}

/** Reads a PID file; `null` if there is none, or something else in it. */
export async function storedPid(path: string): Promise<number | null> {
  try {
    const file = await fs.promises.open(path, READING);
    try {
      if (!(await file.stat()).isFile()) return null;
      const { bytesRead, buffer } = await file.read(room(), 0, LONGEST + 1, 0);
      return pidIn(buffer.subarray(0, bytesRead));
    } finally {
      await file.close();
    }
  } catch (error) {
    return nothing(error);
  }
}

/** {@linkcode storedPid}, blocking the thread. */
export function storedPidSync(path: string): number | null {
  try {
    const fd = fs.openSync(path, READING);
    try {
      if (!fs.fstatSync(fd).isFile()) return null;
      const buffer = room();
      const count = fs.readSync(fd, buffer, 0, buffer.length, 0);
      return pidIn(buffer.subarray(0, count));
    } finally {
      fs.closeSync(fd);
    }
  } catch (error) {
    return nothing(error);
  }
}

function room(): Uint8Array {
  return new Uint8Array(LONGEST + 1);
}

/** The PID that bytes consist of, `null` if they are anything else. */
function pidIn(bytes: Uint8Array): number | null {
  if (bytes.length > LONGEST) return null;
  const digits = new TextDecoder("latin1").decode(bytes).trim();
  const valid = /^[0-9]+$/.test(digits) && digits.length < TOO_MANY_DIGITS;
  return valid && Number(digits) > 0 ? Number(digits) : null;
}

function nothing(error: unknown): null {
  if ((error as { code?: string }).code === "ENOENT") return null;
  throw error;
}

function removeIfPossible(path: string): void {
  try {
    fs.unlinkSync(path);
  } catch {
    // Then writing or renaming says why not.
  }
}
