/** Builds `dist/`, the JavaScript and declarations of the npm package. */

import { rmSync } from "node:fs";
import { join } from "node:path";
import { must, root, systemNode } from "./setup.mjs";

rmSync(join(root, "dist"), { recursive: true, force: true });
const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
must(systemNode(), [tsc, "-p", "tsconfig.npm.json"]);
