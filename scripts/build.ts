/**
 * Builds `dist/`: the JavaScript, the declarations and the native code of the
 * npm package.
 */

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeAddons } from "./addon/compile.ts";
import { writeCode, writeDeclarations } from "./bundle/mod.ts";
import { manualPage } from "../src/cli/grammar/manual.ts";
import { root } from "./setup/mod.ts";

const ENTRIES = { mod: "mod.ts", redis: "src/redis/mod.ts" };

const folder = join(root, "dist");
rmSync(folder, { recursive: true, force: true });
for (const format of ["esm", "cjs"] as const) {
  await writeCode(ENTRIES, { folder, format, sourcemap: true });
}
// The command starts faster if it does not load the code of the library, so it
// has files of its own.
await writeCode({ cli: "src/cli/main.ts" }, {
  folder,
  format: "esm",
  sourcemap: true,
  chunks: "cli-[name]",
});
writeFileSync(join(folder, "portalock.1"), manualPage());
writeAddons(join(folder, "native"));
await writeDeclarations(ENTRIES, folder, ["esm", "cjs"]);
