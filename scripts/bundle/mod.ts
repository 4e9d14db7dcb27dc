/**
 * Bundles the library: into the files of the npm package, and into single
 * files that are copied into a project.
 */

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type OutputChunk, type Plugin, rolldown } from "rolldown";
import { dts } from "rolldown-plugin-dts";
import { root } from "../setup/mod.ts";

/** The names of the bundled files, and their sources. */
export type Entries = Readonly<Record<string, string>>;

/** What a bundle is written as. */
export interface Output {
  readonly folder: string;
  readonly format: "esm" | "cjs";
  readonly sourcemap?: boolean;
  /** Whether docstrings remain in the code. */
  readonly keepsDocs?: boolean;
  /** The name of the files that entries share, and that are loaded later. */
  readonly chunks?: string;
}

/** The name of the file that all entries share. */
const SHARED = "shared";

/** Writes the code. Other comments remain in the source maps only. */
export async function writeCode(
  entries: Entries,
  { folder, format, sourcemap = false, keepsDocs = false, chunks = SHARED }:
    Output,
): Promise<void> {
  const extension = format === "cjs" ? "cjs" : "js";
  await using bundle = await rolldown({
    cwd: root,
    input: { ...entries },
    external: ["redis", "ioredis"],
    platform: "node",
    plugins: [replace(format === "cjs" ? COMMON_JS : EVERYWHERE)],
  });
  await bundle.write({
    dir: folder,
    format,
    sourcemap,
    comments: { legal: true, annotation: true, jsdoc: keepsDocs },
    entryFileNames: `[name].${extension}`,
    chunkFileNames: `${chunks}.${extension}`,
  });
}

/** Texts of the sources, and what the package contains in their place. */
const EVERYWHERE: Readonly<Record<string, string>> = {
  // To import all properties, Node opens the standard streams. That takes
  // longer than everything else.
  'import process from "node:process";': "",
};

/**
 * What CommonJS has in the place of what only ES modules have, and of imports
 * that would copy all properties of the module.
 */
const COMMON_JS: Readonly<Record<string, string>> = {
  ...EVERYWHERE,
  'import * as fs from "node:fs";': 'const fs = require("node:fs");',
  'import * as modules from "node:module";':
    'const modules = require("node:module");',
  'import * as net from "node:net";': 'const net = require("node:net");',
  'import * as tls from "node:tls";': 'const tls = require("node:tls");',
  // Jest does not have import() in CommonJS.
  'await import("redis")': 'require("redis")',
  'await import("ioredis")': 'require("ioredis")',
  // A bundle of a bundle may be an ES module.
  "import.meta.url": '(typeof __filename === "string" ? ' +
    'require("node:url").pathToFileURL(__filename).href : undefined)',
};

/** Replaces texts. A text that the sources do not contain is an error. */
function replace(texts: Readonly<Record<string, string>>): Plugin {
  const missing = new Set(Object.keys(texts));
  return {
    name: "replace",
    transform: {
      filter: { code: Object.keys(texts) },
      handler: (code) => ({
        code: Object.entries(texts).reduce((text, [from, to]) => {
          if (text.includes(from)) missing.delete(from);
          return text.replaceAll(from, to);
        }, code),
        map: null,
      }),
    },
    buildEnd(error) {
      if (error !== undefined || missing.size === 0) return;
      throw new Error(`the sources do not contain ${[...missing].join(", ")}`);
    },
  };
}

/** Writes the declarations, for each of the formats. */
export async function writeDeclarations(
  entries: Entries,
  folder: string,
  formats: readonly Output["format"][],
): Promise<void> {
  await using bundle = await rolldown({
    cwd: root,
    input: { ...entries },
    external: ["redis", "ioredis"],
    plugins: [dts({
      generator: "oxc",
      dtsOnly: true,
      tsconfig: false,
      oxc: { stripInternal: true },
    })],
  });
  const { output } = await bundle.generate({
    entryFileNames: "[name].d.ts",
    chunkFileNames: `${SHARED}.d.ts`,
  });
  mkdirSync(folder, { recursive: true });
  for (const chunk of output) {
    if (chunk.type === "chunk") writeDeclaration(chunk, folder, formats);
  }
}

function writeDeclaration(
  { fileName, code }: OutputChunk,
  folder: string,
  formats: readonly Output["format"][],
): void {
  const text = forNpm(code);
  if (formats.includes("esm")) writeFileSync(join(folder, fileName), text);
  if (!formats.includes("cjs")) return;
  const name = fileName.replace(/\.ts$/, ".cts");
  const imports = text.replaceAll(/(from "\.\/\w+)\.js"/g, '$1.cjs"');
  writeFileSync(join(folder, name), imports);
}

/** Adapts declarations to TypeScript 5.2 and to users of npm. */
function forNpm(code: string): string {
  return '/// <reference lib="esnext.disposable" />\n' +
    code
      // Generic since 5.7: slice() returns the type that each version has.
      .replaceAll("Uint8Array<ArrayBuffer>", 'ReturnType<Uint8Array["slice"]>')
      .replaceAll("jsr:@x/portalock", "@x/portalock");
}
