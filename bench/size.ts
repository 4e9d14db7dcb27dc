/**
 * Measures how large this package is in a program that esbuild bundles and
 * minifies, and which folders that is, beside another checkout:
 *
 * ```sh
 * node bench/size.ts [--before=CHECKOUT]
 * ```
 *
 * The program imports `Lock` alone, or everything. It is bundled from the
 * sources, which esbuild reads as it reads the npm package, but by file.
 */

import { existsSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import { root, setUp } from "../scripts/setup/mod.ts";
import { command } from "../scripts/shared/command.ts";
import { installPeers } from "./contenders/peers.ts";
import { whole } from "./report/format.ts";
import { table } from "./report/report.ts";
import type { Column } from "./types.ts";

const USAGE = `\
node bench/size.ts [--before=CHECKOUT]

Measures the size of this package, bundled and minified by esbuild, in bytes.
Needs Node 26.

  --before=CHECKOUT  another checkout of this package
  --help
`;

/** The addon of all platforms, in base64. Only Node before 26 needs it. */
const NATIVE = "ffi/addon/binaries.ts";

interface SizeOptions {
  readonly help: boolean;
  readonly before: string | undefined;
}

function parseOptions(args: string[]): SizeOptions {
  const { values: { before, help } } = parseArgs({
    args,
    options: {
      before: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (before !== undefined && !existsSync(join(before, "mod.ts"))) {
    throw new Error(
      `Cannot compare with "${before}": it does not contain mod.ts`,
    );
  }
  return { help, before: before === undefined ? undefined : resolve(before) };
}

await command("size", { USAGE, parseOptions }, async ({ before }) => {
  setUp();
  installPeers();
  const checkouts = before === undefined ? [root] : [before, root];
  const sizes = await Promise.all(checkouts.map(measure));
  const names = new Set(
    sizes.toReversed().flatMap((one) => Object.keys(one)),
  );
  const columns: Column<string>[] = [
    { title: "bytes, bundled and minified", cell: (name) => name },
    ...sizes.map((one, i) => ({
      title: i < sizes.length - 1 ? "before" : "this checkout",
      cell: (name: string) => one[name] === undefined ? "-" : whole(one[name]),
    })),
  ];
  console.log(table(columns, [...names]).join("\n"));
  return true;
});

/** Returns the sizes of one checkout, by what they are of. */
async function measure(checkout: string): Promise<Record<string, number>> {
  const lock = await bundle(checkout, "export { Lock }");
  const all = await bundle(checkout, "export *");
  const native = lock.files[NATIVE] ?? 0;
  return {
    "import { Lock }": lock.bytes.length,
    ...native > 0 &&
      { "  without the native code": lock.bytes.length - native },
    "  gzip": gzipSync(lock.bytes).length,
    ...byFolder(lock.files),
    "import *": all.bytes.length,
  };
}

/** Adds the sizes of the files of each folder. */
function byFolder(files: Readonly<Record<string, number>>) {
  const sizes: Record<string, number> = {};
  for (const [file, size] of Object.entries(files).sort()) {
    const place = file === NATIVE
      ? "native code"
      : file.split("/").slice(0, 2).join("/");
    if (size > 0) sizes[`  ${place}`] = (sizes[`  ${place}`] ?? 0) + size;
  }
  return sizes;
}

/** Returns a bundle, and how many bytes of it are of each file. */
async function bundle(
  checkout: string,
  what: string,
): Promise<{ bytes: Uint8Array; files: Record<string, number> }> {
  const { build } = await import("esbuild");
  const { outputFiles: [output], metafile } = await build({
    stdin: { contents: `${what} from "./mod.ts";`, resolveDir: checkout },
    absWorkingDir: checkout,
    bundle: true,
    minify: true,
    platform: "node",
    format: "esm",
    external: ["redis", "ioredis", "koffi"],
    write: false,
    metafile: true,
  });
  const inputs = Object.values(metafile.outputs)[0]?.inputs ?? {};
  const files = Object.entries(inputs).map(([file, { bytesInOutput }]) =>
    [
      relative(checkout, resolve(checkout, file)).replaceAll("\\", "/"),
      bytesInOutput,
    ] as const
  );
  return {
    bytes: output?.contents ?? new Uint8Array(),
    files: Object.fromEntries(files),
  };
}
