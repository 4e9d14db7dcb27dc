import assert from "node:assert/strict";
import * as fs from "node:fs";
import { posix } from "node:path";
import { surroundings, test } from "./support/harness.ts";

const { root } = surroundings;
// Files of the library are called as they are on every system.
const { dirname, join } = posix;
const read = (name: string) => fs.readFileSync(join(root, name), "utf8");
const json = (name: string) => JSON.parse(read(name));

/** The TypeScript files of the library, as paths from the root. */
function sources(): string[] {
  const below = (folder: string): string[] =>
    fs.readdirSync(join(root, folder), { withFileTypes: true }).flatMap(
      (entry) => {
        const path = join(folder, entry.name);
        return entry.isDirectory() ? below(path) : [path];
      },
    );
  return ["mod.ts", ...below("src"), ...below("ffi")];
}

/** A file without its comments. */
const codeOf = (file: string) =>
  read(file).replace(/\/\*[^]*?\*\/|\/\/.*/g, "");

/** What a file imports or exports from. */
function imports(file: string): string[] {
  return [...codeOf(file).matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)]
    .map(([, specifier]) => specifier);
}

/**
 * What the files of each folder may import besides files of their own folder:
 * the folders below it. A file of its own is called by its name.
 */
const BELOW: Record<string, readonly string[]> = (() => {
  const table: Record<string, readonly string[]> = {
    "ffi/types.ts": [],
    "ffi/mod.ts": ["ffi/types.ts"],
    "src/options": ["ffi/mod.ts"],
    "src/core": ["src/options"],
    "src/wait": ["src/core"],
    "src/file": ["src/wait"],
    "src/target": ["src/file"],
    "src/lock": ["src/target"],
    "src/atomic": ["src/lock"],
    "src/redis": ["src/wait"],
    "mod.ts": ["src/atomic"],
  };
  const all = (name: string): string[] =>
    table[name].flatMap((next) => [next, ...all(next)]);
  return Object.fromEntries(
    Object.keys(table).map((name) => [name, all(name)]),
  );
})();

/** The entry of {@linkcode BELOW} that a file belongs to. */
const placeOf = (file: string) =>
  Object.keys(BELOW).find((place) =>
    file === place || file.startsWith(`${place}/`)
  );

test("architecture: arrows between the folders run one way", () => {
  for (const file of sources()) {
    const place = placeOf(file);
    const inFfi = file.startsWith("ffi/");
    assert.ok(inFfi || place !== undefined, `${file} is in no known folder`);
    for (const specifier of imports(file)) {
      if (!specifier.startsWith(".")) continue;
      const target = join(dirname(file), specifier);
      const to = placeOf(target);
      assert.ok(
        inFfi
          ? target.startsWith("ffi/")
          : to !== undefined && (to === place || BELOW[place!].includes(to)),
        `${file} must not import ${target}`,
      );
    }
  }
});

test("architecture: the runtime axis and the system axis do not know each other", () => {
  const runtimes = [
    "ffi/runtime/deno.ts",
    "ffi/runtime/bun.ts",
    "ffi/runtime/node.ts",
  ];
  const systems = /^ffi\/(posix|linux|windows)\//;
  for (const file of sources().filter((name) => name.startsWith("ffi/"))) {
    for (const specifier of imports(file)) {
      const target = join(dirname(file), specifier);
      if (file.startsWith("ffi/runtime/")) assert.doesNotMatch(target, systems);
      if (systems.test(file)) {
        assert.ok(!runtimes.includes(target), `${file} ${target}`);
      }
    }
  }
});

test("architecture: nothing is imported but node: built-ins that every runtime has", () => {
  const allowed = [
    "node:async_hooks",
    "node:buffer",
    "node:crypto",
    "node:diagnostics_channel",
    "node:fs",
    "node:fs/promises",
    "node:module",
    "node:os",
    "node:path",
    "node:process",
    "node:timers",
    "node:url",
    "node:util",
    "node:worker_threads",
  ];
  for (const file of sources()) {
    for (const specifier of imports(file)) {
      if (specifier.startsWith(".")) continue;
      if (file.startsWith("src/redis/") && specifier === "redis") continue;
      assert.ok(allowed.includes(specifier), `${file} imports ${specifier}`);
    }
  }
});

test("architecture: src/ names no runtime, and nobody awaits at the top level", () => {
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
  assert.deepEqual(Object.keys(npm.exports), Object.keys(deno.exports));
  for (const [name, source] of Object.entries<string>(deno.exports)) {
    const built = source.replace(/^\.\//, "./dist/");
    assert.deepEqual(npm.exports[name], {
      types: built.replace(/\.ts$/, ".d.ts"),
      default: built.replace(/\.ts$/, ".js"),
    });
  }
  const version = deno.version.replaceAll(".", "\\.");
  assert.match(read("CHANGELOG.md"), new RegExp(`^## ${version}\\b`, "m"));
});

test("architecture: only those who import it load Redis", () => {
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
