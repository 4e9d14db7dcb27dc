import assert from "node:assert/strict";
import * as fs from "node:fs";
import { posix } from "node:path";
import { surroundings, test } from "./harness.ts";

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
 * Who may import whom. Each layer may use itself and what stands below it; of
 * `ffi/` only its face.
 */
const LAYERS = [
  ["mod", /^mod\.ts$/],
  [
    "lock classes",
    /^src\/(lock|rlock|temporary_file_lock|pid_file_lock|bounded_semaphore|lock_all|low_level|atomic_file|update_file)\.ts$/,
  ],
  ["base of the locks", /^src\/lock_base\.ts$/],
  ["claims", /^src\/claim\//],
  ["atomic writing", /^src\/atomic\//],
  ["files", /^src\/(locked_file|relock|open_file)\.ts$/],
  ["redis", /^src\/redis\//],
  ["holders", /^src\/holders\.ts$/],
  ["wait", /^src\/wait\//],
  [
    "words",
    /^src\/(abandoned|busy|exit|hold|acquire_options|checks|options|lockers|slot_names|paths|recipe|sleep|file_recipes|gate|open_file_arguments|errors|flags|open_mode|diagnostics)\.ts$/,
  ],
  ["face of ffi", /^ffi\/(mod|types)\.ts$/],
  ["ffi", /^ffi\//],
] as const;

const layerOf = (file: string) =>
  LAYERS.findIndex(([, pattern]) => pattern.test(file));

test("architecture: arrows between the folders run one way", () => {
  for (const file of sources()) {
    const layer = layerOf(file);
    assert.notEqual(layer, -1, `${file} belongs to no layer`);
    for (const specifier of imports(file)) {
      if (!specifier.startsWith(".")) continue;
      const target = join(dirname(file), specifier);
      assert.ok(
        file.startsWith("ffi/")
          ? target.startsWith("ffi/")
          : layerOf(target) >= layer && layerOf(target) < LAYERS.length - 1,
        `${file} must not import ${target}`,
      );
    }
  }
});

test("architecture: the runtime axis and the system axis do not know each other", () => {
  const runtimes = [
    "deno",
    "deno_api",
    "deno_file",
    "deno_locks",
    "bun",
    "node",
  ];
  const systems = [
    "posix",
    "fcntl",
    "linux",
    "linux_constants",
    "inotify",
    "proc",
    "constants",
    "descriptors",
    "descriptor",
    "thread_end",
    "windows",
    "windows_calls",
    "windows_constants",
    "windows_thread_end",
  ];
  for (const [side, other] of [[runtimes, systems], [systems, runtimes]]) {
    for (const name of side) {
      const used = imports(`ffi/${name}.ts`);
      for (const foreign of other) {
        assert.ok(!used.includes(`./${foreign}.ts`), `${name} ${foreign}`);
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
  assert.ok(reached.has("src/lock.ts"));
  for (const file of reached) assert.doesNotMatch(file, /redis/);
});
