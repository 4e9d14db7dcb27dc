import assert from "node:assert/strict";
import * as fs from "node:fs";
import { posix } from "node:path";
import { testEnv } from "./support/env.ts";
import { test } from "./support/test.ts";

const { root } = testEnv;
// The library has the same file names on every system.
const { dirname, join } = posix;
const read = (name: string) => fs.readFileSync(join(root, name), "utf8");
const json = (name: string) => JSON.parse(read(name));

/** Returns the files below a folder, as paths from the root. */
const below = (folder: string): string[] =>
  fs.readdirSync(join(root, folder), { withFileTypes: true }).flatMap(
    (entry) => {
      const path = join(folder, entry.name);
      if (entry.name === "node_modules") return [];
      return entry.isDirectory() ? below(path) : [path];
    },
  );

/** The TypeScript files of the library. */
const sources = () => ["mod.ts", ...below("src"), ...below("ffi")];

/** All files of the repository that import each other. */
const allSources = () => [
  ...sources(),
  ...["scripts", "bench", "examples", "tests"].flatMap(below)
    .filter((file) => /\.m?ts$|\.mjs$/.test(file)),
];

/** Returns the text of a file without its comments. */
const codeOf = (file: string) =>
  read(file).replace(/\/\*[^]*?\*\/|\/\/.*/g, "");

/** Returns the specifiers that a file imports or exports from. */
function imports(file: string): string[] {
  return [...codeOf(file).matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)]
    .flatMap(([, specifier]) => specifier ?? []);
}

/**
 * What the files of a folder may import, besides files of the same folder. A
 * file has an entry of its own if other rules hold for it than for its folder.
 */
const ALLOWED: Record<string, readonly string[]> = {
  "ffi/types.ts": [],
  "ffi/addon": ["ffi/types.ts", ...helpers("builtin")],
  "ffi/runtime": ["ffi/types.ts", "ffi/addon"],
  "ffi/linux": [
    "ffi/types.ts",
    ...helpers("memory", "main_thread", "process_exists"),
    ...helpers("shared_state", "thread_exit"),
  ],
  "ffi/posix": [
    "ffi/types.ts",
    ...helpers("host", "memory", "thread_exit"),
    "ffi/linux",
  ],
  "ffi/windows": ["ffi/types.ts", ...helpers("memory", "thread_exit")],
  "ffi/file": ["ffi/types.ts", ...helpers("deno_api"), "ffi/windows"],
  "ffi/mod.ts": [
    "ffi/types.ts",
    "ffi/runtime",
    "ffi/linux",
    "ffi/posix",
    "ffi/windows",
    "ffi/file",
  ],
  "src/options": ["ffi/mod.ts", "ffi/types.ts"],
  "src/core": fromFolder("src/options"),
  "src/wait": fromFolder("src/core"),
  "src/file": fromFolder("src/wait"),
  "src/target": fromFolder("src/file"),
  "src/lock": fromFolder("src/target"),
  "src/atomic": fromFolder("src/lock"),
  "src/redis/protocol": fromFolder("src/core"),
  "src/redis/clients": [...fromFolder("src/core"), "src/redis/protocol"],
  "src/redis/connection": [
    ...fromFolder("src/wait"),
    "src/redis/protocol",
    "src/redis/clients",
  ],
  "src/redis/python": [
    ...fromFolder("src/wait"),
    "src/redis/protocol",
    "src/redis/clients",
    "src/redis/connection",
  ],
  "src/redis/acquisition": [
    ...fromFolder("src/wait"),
    "src/redis/protocol",
    "src/redis/clients",
    "src/redis/connection",
    "src/redis/python",
  ],
  "src/redis": [
    ...fromFolder("src/wait"),
    "src/redis/protocol",
    "src/redis/clients",
    "src/redis/connection",
    "src/redis/acquisition",
  ],
  "src/cli/doctor": [
    ...fromFolder("src/atomic"),
    ...helpers("host"),
    "src/cli/exit_status.ts",
    "src/cli/grammar",
  ],
  "src/cli": [
    ...fromFolder("src/lock"),
    "src/redis",
    "ffi/linux/descendants.ts",
    "ffi/posix/caller.ts",
    "ffi/posix/command.ts",
    "ffi/posix/constants.ts",
    "ffi/posix/supervision.ts",
    ...helpers("host", "light"),
  ],
  "mod.ts": fromFolder("src/atomic"),
};

/** Files of `ffi/runtime` that do not belong to one runtime, or one type. */
function helpers(...names: string[]): string[] {
  return names.map((name) => `ffi/runtime/${name}.ts`);
}

/** A folder of `src/`, and all folders below it. */
function fromFolder(folder: string): string[] {
  const order = [
    "src/options",
    "src/core",
    "src/wait",
    "src/file",
    "src/target",
    "src/lock",
    "src/atomic",
  ];
  const folders = order.slice(0, order.indexOf(folder) + 1);
  return ["ffi/mod.ts", "ffi/types.ts", ...folders];
}

const isIn = (file: string, place: string) =>
  file === place || file.startsWith(`${place}/`);

/** The first entry of {@linkcode ALLOWED} that a file belongs to. */
const placeOf = (file: string) =>
  Object.keys(ALLOWED).find((place) => isIn(file, place));

/** The files of the library that a file imports, types included. */
const importedFiles = (file: string) =>
  imports(file).filter((specifier) => specifier.startsWith("."))
    .map((specifier) => join(dirname(file), specifier));

test("architecture: folders import only what the table allows", () => {
  for (const file of sources()) {
    const place = placeOf(file);
    assert.ok(place !== undefined, `${file} is not in a folder of the table`);
    const allowed = [place, ...ALLOWED[place] ?? []];
    for (const target of importedFiles(file)) {
      assert.ok(
        allowed.some((entry) => isIn(target, entry)),
        `${file} must not import ${target}`,
      );
    }
  }
});

test("architecture: no file is part of a circle, types included", () => {
  const files = new Set(allSources());
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): void => {
    assert.ok(!path.includes(file), [...path, file].join(" -> "));
    // A test may contain an import of a file that does not exist, as text.
    if (done.has(file) || !files.has(file)) return;
    for (const next of importedFiles(file)) visit(next, [...path, file]);
    done.add(file);
  };
  for (const file of files) visit(file, []);
});

test("architecture: one function reads the code of an error", () => {
  for (const file of sources()) {
    if (file === "ffi/types.ts") continue;
    assert.doesNotMatch(codeOf(file), /as \{ code\?: /, file);
  }
});

test("architecture: the only packages are node: built-ins that every runtime has", () => {
  const allowed = [
    "node:async_hooks",
    "node:buffer",
    "node:child_process",
    "node:crypto",
    "node:diagnostics_channel",
    "node:fs",
    "node:fs/promises",
    "node:module",
    "node:net",
    "node:os",
    "node:path",
    "node:process",
    "node:readline",
    "node:timers",
    "node:timers/promises",
    "node:tls",
    "node:url",
    "node:util",
    "node:worker_threads",
  ];
  for (const file of sources()) {
    for (const specifier of imports(file)) {
      if (specifier.startsWith(".")) continue;
      if (isIn(file, "src/redis/clients") && /^(io)?redis$/.test(specifier)) {
        continue;
      }
      assert.ok(allowed.includes(specifier), `${file} imports ${specifier}`);
    }
  }
});

test("architecture: src/ does not name a runtime, and no module awaits at its top level", () => {
  for (const file of sources()) {
    const code = codeOf(file).replace(/"[^"\n]*"|`[^`]*`/g, '""');
    const forbidden = file.startsWith("ffi/")
      ? /^(export )?(const .*)?await /m
      : /^(export )?(const .*)?await |\b(Deno|Bun)\b/m;
    assert.equal(code.match(forbidden)?.[0], undefined, file);
  }
});

test("architecture: deno.json, jsr.json and package.json agree", () => {
  const [deno, jsr, npm] = ["deno", "jsr", "package"].map((name) =>
    json(`${name}.json`)
  );
  for (const field of ["name", "version", "license"]) {
    assert.equal(jsr[field], deno[field], field);
    assert.equal(npm[field], deno[field], field);
  }
  assert.deepEqual(jsr.exports, deno.exports);
  assert.deepEqual(jsr.publish, deno.publish);
  const { "./package.json": _, ...modules } = npm.exports;
  assert.deepEqual(Object.keys(modules), Object.keys(deno.exports));
  const version = deno.version.replaceAll(".", "\\.");
  assert.match(read("CHANGELOG.md"), new RegExp(`^## ${version}\\b`, "m"));
});

test("architecture: only an import of the redis entry loads Redis", () => {
  const reached = new Set(["mod.ts"]);
  for (const file of reached) {
    for (const specifier of imports(file)) {
      if (!specifier.startsWith(".")) continue;
      reached.add(join(dirname(file), specifier));
    }
  }
  assert.ok(reached.has("src/lock/lock.ts"));
  for (const file of reached) assert.doesNotMatch(file, /redis/);
});

/** The modules that are loaded when a file is, without types. */
const loadedBy = (file: string) =>
  [
    ...codeOf(file).matchAll(
      /^(?:import|export) (?!type\b)(?:[^;"]*from )?"([^"]+)";/gm,
    ),
  ]
    .map(([, specifier = ""]) => specifier);

// On Deno each takes longer to load than all else, and `node:process` makes the
// standard streams non-blocking on Node.
test("architecture: the command starts without modules of node:", () => {
  const reached = new Set(["src/cli/main.ts"]);
  for (const file of reached) {
    for (const specifier of loadedBy(file)) {
      assert.ok(
        specifier.startsWith("."),
        `${file} must not load ${specifier}`,
      );
      reached.add(join(dirname(file), specifier));
    }
  }
  assert.ok(reached.has("ffi/posix/command.ts"));
});

/** Returns the anchors of the headings of a Markdown file. */
const anchorsOf = (file: string) =>
  [...read(file).matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
    heading.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-")
  );

test("every document that a message of the library names can be reached", () => {
  const repository = "https://github.com/x/portalock/blob/main/";
  const named = sources().flatMap((file) =>
    read(file)
      .replace(/\/\*[^]*?\*\/|^\s*\/\/.*/gm, "")
      // A string may be written in several parts.
      .replace(/["`]\s*\+\s*["`]/g, "")
      .split(/[\s"`;,()]+/)
      .filter((word) => /\.md(?!\w)/.test(word))
  );
  assert.notEqual(named.length, 0);
  for (const url of named) {
    assert.ok(url.startsWith(repository), `${url} is not a URL`);
    const [file = "", anchor] = url.slice(repository.length).split("#");
    assert.ok(fs.existsSync(join(root, file)), `${url} does not exist`);
    if (anchor === undefined) continue;
    assert.ok(anchorsOf(file).includes(anchor), `${url} has no such heading`);
  }
});

test("every document that a comment of the library names exists", () => {
  for (const file of sources()) {
    for (const [name] of read(file).matchAll(/\bdocs\/[\w-]+\.md\b/g)) {
      assert.ok(fs.existsSync(join(root, name)), `${file} names ${name}`);
    }
  }
});
