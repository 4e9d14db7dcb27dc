/**
 * `node scripts/addon.mjs`: compiles `ffi/addon/addon.c` for all targets, and
 * writes the results to `ffi/addon/binaries.ts`; see `addon/compile.ts`.
 */

import { parseArgs } from "node:util";
import {
  compareAddon,
  hasCompiler,
  staleAddon,
  VERSION,
  writeBinaries,
} from "./addon/compile.ts";
import { command } from "./shared/command.ts";

const USAGE = `\
Compiles ffi/addon/addon.c for all systems and processors, and writes
ffi/addon/binaries.ts. Needs clang ${VERSION} of Debian 12.

node scripts/addon.mjs [OPTION]...

--check   only compares binaries.ts with what the compiler makes
--help
`;

function parseOptions(args: string[]): { check: boolean; help: boolean } {
  const { values } = parseArgs({
    args,
    options: {
      check: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  return values;
}

await command("addon", { USAGE, parseOptions }, ({ check }) => {
  if (!hasCompiler()) {
    throw new Error(
      `needs clang ${VERSION} of Debian 12: ` +
        "apt-get install clang-14 lld-14 llvm-14",
    );
  }
  if (!check) {
    writeBinaries();
    return true;
  }
  const problems = [staleAddon(), compareAddon()].filter(Boolean);
  for (const problem of problems) console.log(problem);
  return problems.length === 0;
});
