/** Builds `dist/`, the JavaScript and declarations of the npm package. */

import { rmSync } from "node:fs";
import { join } from "node:path";
import { must, root } from "./setup.mjs";

rmSync(join(root, "dist"), { recursive: true, force: true });
must(join(root, "node_modules", ".bin", "tsc"), ["-p", "tsconfig.npm.json"]);
