/** The command line of `npm run vendor`. */

import { existsSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, extname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { root } from "../setup/mod.ts";

/** What the library and its declarations are made of, by their extension. */
export const FORMS = {
  ".mjs": { format: "esm", declarations: ".d.mts" },
  ".js": { format: "esm", declarations: ".d.ts" },
  ".cjs": { format: "cjs", declarations: ".d.cts" },
} as const;

/** The first line of both files. */
export const FIRST_LINE = "/*! portalock ";

const DEFAULT_OUTPUT = join(root, "build", "vendor", "portalock.mjs");

export const USAGE = `\
Writes the whole library to one file, to copy into a project. Locks in Redis
are in the same file; the package redis is only imported when one is used.

node scripts/vendor.mjs [OUTPUT]

OUTPUT is the file, build/vendor/portalock.mjs by default. Its extension decides
what it is:

  .mjs  an ECMAScript module, for every runtime
  .js   the same, if the nearest package.json says "type": "module"
  .cjs  CommonJS, for require() on every runtime

The declarations for TypeScript are written beside it. They are optional.

  --help
`;

/** What {@linkcode parseOptions} returns. */
export interface VendorOptions {
  readonly help: boolean;
  /** The file of code. */
  readonly output: string;
  /** The file of declarations. */
  readonly declarations: string;
  readonly format: "esm" | "cjs";
}

/** @throws {Error} If an argument is wrong. */
export function parseOptions(args: string[]): VendorOptions {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { help: { type: "boolean", default: false } },
  });
  const [output = DEFAULT_OUTPUT, ...others] = positionals;
  if (others.length > 0) {
    throw new RangeError(
      `unexpected argument "${others[0]}": expected one OUTPUT (see --help)`,
    );
  }
  const extension = extname(output);
  if (!isForm(extension)) {
    throw new RangeError(
      `OUTPUT must end with ${Object.keys(FORMS).join(", ")}, not "${output}"`,
    );
  }
  const { format, declarations } = FORMS[extension];
  const name = basename(output, extension);
  const options = {
    help: values.help,
    output: resolve(output),
    declarations: resolve(dirname(output), `${name}${declarations}`),
    format,
  };
  if (!values.help) {
    mustBeReplaceable(options.output);
    mustBeReplaceable(options.declarations);
  }
  return options;
}

function isForm(extension: string): extension is keyof typeof FORMS {
  return Object.hasOwn(FORMS, extension);
}

/**
 * Refuses to replace another file.
 *
 * @throws {Error} If the path is not free or a copy of portalock.
 */
function mustBeReplaceable(file: string): void {
  if (!existsSync(file)) return;
  if (!statSync(file).isFile()) {
    throw new Error(`Cannot write "${file}": it is not a file`);
  }
  if (!readFileSync(file, "utf8").startsWith(FIRST_LINE)) {
    throw new Error(
      `Cannot write "${file}": it exists and is not a copy of portalock; ` +
        "remove it or choose another name",
    );
  }
}
