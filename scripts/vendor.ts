/**
 * `npm run vendor`: writes the whole library to one file, which is copied into
 * a project. See `vendor/options.ts` for the command line.
 */

import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { writeCode, writeDeclarations } from "./bundle/mod.ts";
import { root } from "./setup/mod.ts";
import { command } from "./shared/command.ts";
import * as commandLine from "./vendor/options.ts";
import { FIRST_LINE, type VendorOptions } from "./vendor/options.ts";

/** The name of the files in the temporary folder. */
const NAME = "portalock";

const ENTRIES = { [NAME]: "scripts/vendor/entry.ts" };

/** For the tools of the project that the file is copied into. */
const LEAVE_ALONE = `\
/* eslint-disable */
// deno-lint-ignore-file
// deno-fmt-ignore-file
// @ts-nocheck
`;

await command("vendor", commandLine, async (options) => {
  mkdirSync(dirname(options.output), { recursive: true });
  const folder = mkdtempSync(join(tmpdir(), "portalock-vendor-"));
  try {
    const { format } = options;
    await writeCode(ENTRIES, { folder, format, keepsDocs: true });
    await writeDeclarations(ENTRIES, folder, [format]);
    for (const [file, text] of Object.entries(files(folder, options))) {
      writeFileSync(file, text);
      console.log(`${file} (${Math.round(text.length / 1000)} kB)`);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  return true;
});

/** Returns the text of each file to write. */
function files(
  folder: string,
  { output, declarations, format }: VendorOptions,
): Record<string, string> {
  const [code, types] = format === "cjs" ? ["cjs", "d.cts"] : ["js", "d.ts"];
  const read = (extension: string) =>
    readFileSync(join(folder, `${NAME}.${extension}`), "utf8")
      .replaceAll(
        /"(jsr:)?@x\/portalock(\/redis)?"/g,
        `"./${basename(output)}"`,
      );
  return {
    [output]: header() + LEAVE_ALONE + read(code),
    [declarations]: header() + read(types),
  };
}

/** The version and the license, which must stay with every copy. */
function header(): string {
  const read = (name: string) => readFileSync(join(root, name), "utf8");
  const { version, homepage } = JSON.parse(read("package.json"));
  const license = read("LICENSE").trim().split("\n")
    .map((line) => ` * ${line}`.trimEnd()).join("\n");
  return `${FIRST_LINE}${version}, ${homepage}\n *\n${license}\n */\n`;
}
