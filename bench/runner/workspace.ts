/** A temporary folder of this run, of which nothing is left when it ends. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";

const SIGNALS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };

export function workspace() {
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

/** A path in the folder that nobody had yet. */
export function freshPath(folder) {
  return join(folder, `${++files}.lock`);
}
