/** Builds `dist/`: the JavaScript and the declarations of the npm package. */

import { rmSync } from "node:fs";
import { join } from "node:path";
import { root, runTypeScript } from "./setup/mod.ts";

rmSync(join(root, "dist"), { recursive: true, force: true });
runTypeScript("-p", "tsconfig.npm.json");
