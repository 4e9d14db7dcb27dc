/** Changes a setting of the kernel while a test runs. */

import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TemporaryFileLock } from "../../mod.ts";

/**
 * Runs a body while `protected_symlinks` is on: see proc_sys_fs(5). Tests in
 * other processes that change it wait meanwhile.
 */
export async function withProtectedSymlinks(
  body: () => Promise<void>,
): Promise<void> {
  const lock = new TemporaryFileLock(
    join(tmpdir(), "portalock-test-protected-symlinks.lock"),
  );
  await lock.run(async () => {
    const before = protectedSymlinks();
    setProtectedSymlinks("1");
    try {
      await body();
    } finally {
      setProtectedSymlinks(before);
    }
  }, { timeout: 100_000 });
}

// Deno requires all permissions for /proc, so that other programs are used.
function protectedSymlinks(): string {
  const path = "/proc/sys/fs/protected_symlinks";
  return spawnSync("cat", [path], { encoding: "utf8" }).stdout.trim();
}

function setProtectedSymlinks(value: string): void {
  const script = `echo ${value} > /proc/sys/fs/protected_symlinks`;
  const { status } = spawnSync("sh", ["-c", script]);
  if (status !== 0) throw new Error("cannot change protected_symlinks");
}
