/** The temporary folder of a run, which is removed when the run ends. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

const SIGNALS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };

/** Makes the folder, and removes it when the process ends. */
export function workspace(): string {
  const folder = mkdtempSync(join(tmpdir(), "portalock-bench-"));
  process.on("exit", () => {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });
  for (const [signal, status] of Object.entries(SIGNALS)) {
    process.on(signal, () => process.exit(status));
  }
  return folder;
}

let files = 0;

/** Returns a path in the folder that was not used before. */
export function freshPath(folder: string): string {
  return join(folder, `${++files}.lock`);
}
