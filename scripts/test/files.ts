/** Finds test files by the names that the command line gives. */

import { join, relative } from "node:path";
import { filesBelow, root } from "../setup/mod.ts";

/** How many similar names an error message lists. */
const MAX_SUGGESTIONS = 5;

/** Returns the test files, as paths relative to the checkout. */
export function testFiles(): string[] {
  return filesBelow(
    join(root, "tests"),
    (path) => path.endsWith("_test.ts"),
  ).map((path) => relative(root, path).replaceAll("\\", "/")).sort();
}

/**
 * Returns the files of `all` with these names. A name may omit `tests/`, its
 * folder and `_test.ts`, or be the name of a folder. Without names, all files
 * are returned.
 *
 * @throws {RangeError} If a name does not exist. The message lists the nearest
 * names.
 */
export function selectFiles(
  all: readonly string[],
  names: readonly string[],
): string[] {
  if (names.length === 0) return [...all];
  const selected = new Set<string>();
  for (const name of names) {
    const found = filesNamed(all, name);
    if (found.length === 0) {
      throw new RangeError(
        `Cannot run "${name}": no test file or folder has this name. ` +
          `The nearest names: ${nearestNames(all, name).join(", ")}`,
      );
    }
    for (const file of found) selected.add(file);
  }
  return all.filter((file) => selected.has(file));
}

function filesNamed(all: readonly string[], name: string): string[] {
  const path = name.replaceAll("\\", "/").replace(/^\.\//, "");
  const wanted = path.replace(/^tests\//, "").replace(/\/$/, "");
  const files = all.filter((file) => namesOf(file).includes(wanted));
  const inFolder = all.filter((file) => file.includes(`/${wanted}/`));
  const isFolder = path.endsWith("/") || path === `tests/${wanted}`;
  // "scripts" is redis/scripts_test.ts, "tests/scripts" and "scripts/" are not.
  const [first, second] = isFolder ? [inFolder, files] : [files, inFolder];
  return first.length > 0 ? first : second;
}

/** Returns all names of a file that the command line accepts. */
function namesOf(file: string): string[] {
  const path = file.replace(/^tests\//, "");
  const name = path.slice(path.lastIndexOf("/") + 1);
  return [path, name].flatMap((each) => [
    each,
    each.replace(/\.ts$/, ""),
    each.replace(/_test\.ts$/, ""),
  ]);
}

/** Returns the file and folder names that are most similar to a name. */
export function nearestNames(all: readonly string[], name: string): string[] {
  const short = name.replace(/^.*\//, "").replace(/(_test)?(\.ts)?$/, "");
  const known = new Set(all.flatMap((file) => {
    const [, folder, base] = /([^/]+)\/([^/]+)\.ts$/.exec(file) ?? [];
    return [base, folder === "tests" ? undefined : folder]
      .filter((each) => each !== undefined);
  }));
  const distance = (candidate: string) => {
    const base = candidate.replace(/_test$/, "");
    return short !== "" && base.includes(short) ? 0 : editDistance(short, base);
  };
  return [...known].sort((a, b) => distance(a) - distance(b))
    .slice(0, MAX_SUGGESTIONS);
}

/** The Levenshtein distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) {
      const cost = a[i] === b[j] ? 0 : 1;
      next.push(Math.min(
        (row[j] ?? 0) + cost,
        (row[j + 1] ?? 0) + 1,
        (next[j] ?? 0) + 1,
      ));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}
