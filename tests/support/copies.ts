/** Loads copies of the package into this process. */

import * as fs from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { currentRuntime } from "./env.ts";
import { patchedFiles } from "./platform.ts";
import { tempDir } from "./temp_dir.ts";

/** What `mod.ts` exports, in one copy of the package. */
export type Portalock = typeof import("../../mod.ts");

/** One more copy of the package. */
export interface Copy extends Disposable {
  /** The URL of its `mod`. */
  readonly url: string;
  readonly portalock: Portalock;
  /** Makes its files notify no waiter, until the result is disposed. */
  withoutWatches(): Disposable;
}

/** Copies the package to a folder, and imports it from there. */
export async function loadCopy(): Promise<Copy> {
  const dir = tempDir();
  const { directory, extension } = currentRuntime;
  for (const name of [`mod${extension}`, "src", "ffi"]) {
    copy(join(directory, name), join(dir.path, name));
  }
  fs.writeFileSync(join(dir.path, "package.json"), `{ "type": "module" }`);
  const urlOf = (name: string) =>
    pathToFileURL(join(dir.path, `${name}${extension}`)).href;
  const url = urlOf("mod");
  const portalock: Portalock = await import(url);
  const ffi: typeof import("../../ffi/mod.ts") = await import(urlOf("ffi/mod"));
  return {
    url,
    portalock,
    withoutWatches() {
      const real = ffi.platform();
      const change = () => ({ watchClose: () => null });
      ffi.setPlatformForTesting({ ...real, ...patchedFiles(real, change) });
      return {
        [Symbol.dispose]: () => void ffi.setPlatformForTesting(real),
      };
    },
    [Symbol.dispose]: () => dir[Symbol.dispose](),
  };
}

function copy(from: string, to: string): void {
  if (!fs.statSync(from).isDirectory()) return fs.copyFileSync(from, to);
  fs.mkdirSync(to);
  for (const name of fs.readdirSync(from)) {
    copy(join(from, name), join(to, name));
  }
}
