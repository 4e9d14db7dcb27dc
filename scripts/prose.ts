/**
 * `node scripts/prose.mjs [PATH...]`: reports banned phrases in the prose of
 * files and folders, the current folder by default.
 *
 * The phrases and their better wordings are in `scripts/prose/banned.txt`.
 */

import { relative, resolve } from "node:path";
import process from "node:process";
import { findBannedPhrases } from "./prose/check.ts";

const paths = process.argv.slice(2);
const findings = findBannedPhrases(
  (paths.length > 0 ? paths : ["."]).map((path) => resolve(path)),
);
for (const { path, line, phrase, better } of findings) {
  console.log(
    `${relative(process.cwd(), path)}:${line}: ${phrase} -> ${better}`,
  );
}
console.error(`${findings.length} banned phrases`);
process.exitCode = findings.length > 0 ? 1 : 0;
