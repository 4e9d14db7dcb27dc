/** Tries what `writeAtomic` and `updateFile` need. */

import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { writeAtomic } from "../../atomic/atomic_file.ts";
import { Lock } from "../../lock/lock.ts";
import { describeError } from "./describe_error.ts";
import type { WriteReport } from "./types.ts";

/** Bits that no umask and no default of a mount option sets. */
const UNUSUAL_BITS = 0o640;

/** Tries it in a directory. Creates files with names of its own there. */
export async function tryWrites(directory: string): Promise<WriteReport> {
  const path = join(directory, "written");
  const errors: unknown[] = [];
  const works = async (body: () => unknown) => {
    try {
      return await body() !== false;
    } catch (error) {
      errors.push(error);
      return false;
    }
  };
  const replaces = await works(async () => {
    await writeAtomic(path, "old");
    await writeAtomic(path, "new", { replace: true });
    return fs.readFileSync(path, "utf8") === "new";
  });
  // These are not errors: an atomic write does without them.
  const found = [...errors];
  const hardLinks = await works(() => fs.linkSync(path, `${path}.link`));
  const permissions = process.platform !== "win32" && await works(() => {
    fs.chmodSync(path, UNUSUAL_BITS);
    return (fs.statSync(path).mode & 0o777) === UNUSUAL_BITS;
  });
  const syncsDirectory = await works(() => syncDirectory(directory));
  const inPlace = await works(() => overwrite(`${path}.place`));
  return {
    replaces,
    hardLinks,
    permissions,
    syncsDirectory,
    inPlace,
    error: found.length === 0 ? null : describeError(found[0]),
    updates: null,
  };
}

function syncDirectory(directory: string): void {
  const fd = fs.openSync(directory, "r");
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

async function overwrite(path: string): Promise<boolean> {
  fs.writeFileSync(path, "old content", { flag: "wx" });
  await new Lock(path, { mode: "r+" })
    .run((file) => file.replaceContents("new"));
  return fs.readFileSync(path, "utf8") === "new";
}
