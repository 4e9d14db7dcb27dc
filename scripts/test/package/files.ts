/** Checks the files of the npm package. */

import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { FILES as ADDONS } from "../../../ffi/addon/binaries.ts";
import { filesBelow, root, systemNode } from "../../setup/mod.ts";
import { check, report } from "./check.ts";

const CODE = ["mod", "redis", "shared"].flatMap((name) => [
  `${name}.cjs`,
  `${name}.js`,
]);
const DECLARATIONS = CODE.map((name) => name.replace(/\.(c?)js$/, ".d.$1ts"));

/** The files that the command loads later, which `checkCommand` runs. */
const LOADED_LATER = /^cli-\w[\w-]*\.js(\.map)?$/;

/** The files of `dist/`. */
const FILES = [
  ...[...CODE, "cli.js"].flatMap((name) => [name, `${name}.map`]),
  ...DECLARATIONS,
  "portalock.1",
  ...Object.keys(ADDONS).map((name) => `native/${name}.node`),
];

/**
 * Prints the functions and classes of a bundle that its source map does not
 * lead to.
 */
const MAPS = `
  import { readFileSync } from "node:fs";
  import { SourceMap } from "node:module";
  let count = 0;
  for (const file of process.argv.slice(2)) {
    const map = JSON.parse(readFileSync(file + ".map", "utf8"));
    const entries = new SourceMap(map);
    const contents = new Map(map.sources.map((source, index) =>
      [source, map.sourcesContent[index].split("\\n")]
    ));
    readFileSync(file, "utf8").split("\\n").forEach((text, line) => {
      const name = /^(?:async )?(?:class|function)\\*? (\\w+)/.exec(text)?.[1];
      if (name === undefined) return;
      count++;
      const { originalSource, originalLine } = entries.findEntry(line, 0);
      const found = contents.get(originalSource)?.[originalLine];
      if (!found?.includes(name)) console.log(file, line, text, found);
    });
  }
  console.log(count > 500 ? "done" : "too few: " + count);
`;

/** Prints the stack of an error that passes through the package. */
const stackProgram = (load: string) => `
  ${load}
  new Lock("a.lock").run(() => { throw new Error("a"); })
    .catch((error) => console.log(error.stack));
`;
const STACKS = {
  "stack.mjs": 'import { Lock } from "@x/portalock";',
  "stack.cjs": 'const { Lock } = require("@x/portalock");',
};
export const filePrograms: Readonly<Record<string, string>> = {
  "maps.mjs": MAPS,
  ...Object.fromEntries(
    Object.entries(STACKS).map(([name, load]) => [name, stackProgram(load)]),
  ),
};

/** Checks the installed package. */
export function checkFiles(project: string): void {
  const installed = join(project, "node_modules", "@x", "portalock");
  const dist = join(installed, "dist");
  const files = allFiles(dist).filter((name) => !LOADED_LATER.test(name));
  report("the npm package, files", difference(files, FILES));
  report("the npm package, targets in package.json", wrongTargets(installed));
  report("the npm package, links in its documents", brokenLinks(installed));
  report("the npm package, documents it names", missingDocuments(installed));
  const jsr = DECLARATIONS.filter((name) =>
    readFileSync(join(dist, name), "utf8").includes("jsr:")
  );
  report("the npm package, examples import it from npm", jsr.join());
  checkMaps(project, dist);
}

function checkMaps(project: string, dist: string): void {
  const stale = CODE.flatMap((name) => staleSources(join(dist, `${name}.map`)));
  report("the npm package, content of the source maps", stale.join("\n"));
  check(
    "the npm package, places in the source maps",
    project,
    [systemNode(), "maps.mjs", ...CODE.map((name) => join(dist, name))],
    (stdout) => stdout === "done\n",
  );
  for (const name of Object.keys(STACKS)) {
    check(
      `the npm package, lines of the source in ${name}`,
      project,
      [systemNode(), "--enable-source-maps", name],
      (stdout) => /portalock[\\/]src[\\/]\S+\.ts:\d+:\d+/.test(stdout),
    );
  }
}

/** Returns the sources in a map that are not files of this checkout. */
function staleSources(path: string): string[] {
  const { sources, sourcesContent } = JSON.parse(
    readFileSync(path, "utf8"),
  ) as { sources: string[]; sourcesContent: string[] };
  return sources.filter((source, index) => {
    const file = join(root, "dist", source);
    return !existsSync(file) ||
      readFileSync(file, "utf8") !== sourcesContent[index];
  }).map((source) => `${basename(path)}: ${source}`);
}

function allFiles(folder: string): string[] {
  return filesBelow(folder).map((path) =>
    relative(folder, path).replaceAll("\\", "/")
  );
}

function difference(
  found: readonly string[],
  expected: readonly string[],
): string {
  const extra = found.filter((name) => !expected.includes(name));
  const missing = expected.filter((name) => !found.includes(name));
  return [
    ...extra.map((name) => `not expected: ${name}`),
    ...missing.map((name) => `missing: ${name}`),
  ].join("\n");
}

/** Returns the files that package.json names, but the package lacks. */
function wrongTargets(folder: string): string {
  const { bin, man, main, types, typesVersions, exports } = JSON.parse(
    readFileSync(join(folder, "package.json"), "utf8"),
  );
  const files = ["package.json", ...FILES.map((name) => `dist/${name}`)];
  const targets = stringsIn([bin, man, main, types, typesVersions, exports]);
  return targets
    .filter((target) => !files.some((file) => target === `./${file}`))
    .join("\n");
}

/** Returns the strings in a value of JSON, without the keys. */
function stringsIn(value: unknown): string[] {
  if (typeof value === "string") return [value];
  // So a field that is missing is reported, too.
  if (typeof value !== "object" || value === null) return [`${value}`];
  return Object.values(value).flatMap(stringsIn);
}

/** Returns the links to files that a folder of documents does not contain. */
function brokenLinks(folder: string): string {
  const documents = filesBelow(folder, (path) => path.endsWith(".md"));
  const broken = documents.flatMap((document) =>
    [...readFileSync(document, "utf8").matchAll(/\]\(([^)#]+)[^)]*\)/g)]
      .map(([, target = ""]) => target)
      .filter((target) => !/^https?:/.test(target))
      .filter((target) => !existsSync(join(dirname(document), target)))
      .map((target) => `${relative(folder, document)}: ${target}`)
  );
  return documents.length > 1 ? broken.join("\n") : "no documents";
}

/** Returns the documents that messages and docstrings name, but are missing. */
function missingDocuments(folder: string): string {
  const named = [...CODE, ...DECLARATIONS].flatMap((name) =>
    readFileSync(join(folder, "dist", name), "utf8")
      .match(/\bdocs\/[\w-]+\.md/g) ?? []
  );
  const missing = new Set(
    named.filter((name) => !existsSync(join(folder, name))),
  );
  return named.length > 0 ? [...missing].join("\n") : "no document is named";
}
