/** Finds the phrases of `banned.txt` in the prose of files. */

import { readdirSync, readFileSync, statSync } from "node:fs";
import { extname, join } from "node:path";
import { extractProse } from "./extract.ts";

/** A banned phrase at a line of a file. */
export interface Finding {
  path: string;
  line: number;
  /** The words that were found. */
  phrase: string;
  /** The wording to use instead. */
  better: string;
}

/** A line of `banned.txt`. */
export interface Rule {
  pattern: RegExp;
  better: string;
}

/** Folders that contain installed packages or build results. */
const SKIPPED_FOLDERS = ["node_modules", "build", "dist", ".git"];

/** Between two words: spaces and at most one line break. */
const GAP = "[ \\t]*(?:\\n[ \\t]*| )";

/**
 * Parses the text of `banned.txt`: a regular expression, ` -> `, and the better
 * wording in each line. Empty lines and lines that start with `#` are comments.
 *
 * @throws {SyntaxError} If a line is not a rule.
 */
export function parseRules(text: string): Rule[] {
  return text.split("\n").flatMap((line, index) => {
    if (line.trim() === "" || line.startsWith("#")) return [];
    const arrow = line.indexOf(" -> ");
    if (arrow < 1) {
      throw new SyntaxError(`line ${index + 1}: " -> " is missing`);
    }
    const words = line.slice(0, arrow).trim();
    // A capital letter in a rule means that the case of the text matters.
    const flags = /[A-Z]/.test(words.replace(/\\./g, "")) ? "g" : "gi";
    const source = `(?<![\\w-])(?:${words.replaceAll(" ", GAP)})(?![\\w-])`;
    return [{
      pattern: new RegExp(source, flags),
      better: line.slice(arrow + 4).trim(),
    }];
  });
}

/** Returns the rules of `banned.txt`. */
export function readRules(): Rule[] {
  const file = new URL("banned.txt", import.meta.url);
  return parseRules(readFileSync(file, "utf8"));
}

/** Checks the text of one file. */
export function checkText(
  path: string,
  text: string,
  rules: readonly Rule[],
): Finding[] {
  const prose = extractProse(extname(path), text);
  if (prose === null) return [];
  const found = rules.flatMap(({ pattern, better }) =>
    [...prose.matchAll(pattern)].map((match) => ({
      path,
      line: prose.slice(0, match.index).split("\n").length,
      phrase: match[0].replace(/\s+/g, " "),
      better,
    }))
  );
  return found.sort((a, b) => a.line - b.line);
}

/** Checks files and all files below folders. */
export function findBannedPhrases(paths: readonly string[]): Finding[] {
  const rules = readRules();
  return paths.flatMap(filesAt).sort()
    .flatMap((path) => checkText(path, readFileSync(path, "utf8"), rules));
}

function filesAt(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path, { withFileTypes: true }).flatMap((entry) => {
    const child = join(path, entry.name);
    if (entry.isDirectory()) {
      return SKIPPED_FOLDERS.includes(entry.name) ? [] : filesAt(child);
    }
    return entry.isFile() ? [child] : [];
  });
}
