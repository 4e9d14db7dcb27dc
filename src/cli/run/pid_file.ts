/**
 * Writes the PID of the command to a PID file that this process has written.
 *
 * The file contains the PID of this process until the command runs, and again
 * while the lock is released, because only its writer removes it. Both processes
 * hold the lock. The PID is overwritten in place by one write(2), so a reader
 * sees one of the two. A shorter one is padded.
 *
 * @module
 */

import * as fs from "node:fs";

/**
 * Replaces the PID in a file. Does nothing if the file has another content:
 * another program has replaced it.
 *
 * @returns Whether the PID was replaced. The command runs, so there is no error.
 */
export function replacePid(path: string, from: number, to: number): boolean {
  const flags = fs.constants.O_RDWR | (fs.constants.O_NOFOLLOW ?? 0);
  let fd: number | undefined;
  try {
    fd = fs.openSync(path, flags);
    const { size } = fs.fstatSync(fd);
    const old = String(from);
    if (size > MAX_SIZE) return false;
    const content = new Uint8Array(size);
    fs.readSync(fd, content, 0, size, 0);
    if (new TextDecoder().decode(content).trimEnd() !== old) return false;
    fs.writeSync(fd, String(to).padEnd(size), 0);
    return true;
  } catch {
    // Another program has removed it, or the disk fails. The lock counts.
    return false;
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

/** A longer file does not contain a PID. */
const MAX_SIZE = 64;
