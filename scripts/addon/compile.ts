/**
 * Compiles `ffi/addon/addon.c` for all targets, and writes or compares the
 * results.
 *
 * The same compiler makes the same bytes everywhere. Other versions than that
 * of Debian 12 make other bytes.
 */

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FILES, SOURCE_SHA256 } from "../../ffi/addon/binaries.ts";
import { unpack } from "../../ffi/addon/unpack.ts";
import { compress } from "./lz4.ts";
import { must, root } from "../setup/mod.ts";

/** The version of clang in Debian 12. */
export const VERSION = "14.0.6";

const source = join(root, "ffi", "addon", "addon.c");
const generated = join(root, "ffi", "addon", "binaries.ts");

/** A system and a processor. */
interface Target {
  /** The processor in the name of the compiler's target. */
  cpu: "x86_64" | "aarch64" | "arm64";
  compile(target: Target): string[];
  link(target: Target, object: string, output: string): void;
}

const linux = {
  compile: ({ cpu }: Target) => [
    ...["-target", `${cpu}-unknown-linux-gnu`, "-fPIC", "-fno-plt"],
  ],
  /**
   * Without libraries: the symbols are found in Node and its C library. Pages
   * of arm64 have up to 64 KiB. Everything is bound when the file is loaded, and
   * is read-only after that.
   */
  link(_: Target, object: string, output: string): void {
    refuseOtherSymbols(object, ["__errno_location", ...POSIX]);
    must("ld.lld-14", [
      ...["-shared", "-o", output, object],
      ...["--strip-all", "--build-id=none", "--hash-style=gnu"],
      ...["-z", "now", "-z", "relro", "-z", "noexecstack"],
      ...["-z", "max-page-size=65536", "-z", "noseparate-code"],
    ]);
  },
};

const darwin = {
  compile: ({ cpu }: Target) => [
    ...["-target", `${cpu}-apple-macos11`, "-fPIC", "-fno-plt"],
  ],
  /** Signed ad hoc, without which arm64 does not load code. */
  link({ cpu }: Target, object: string, output: string): void {
    refuseOtherSymbols(object, [...DARWIN, ...POSIX].map((name) => `_${name}`));
    const libSystem = join(output, "..", "libSystem.tbd");
    writeFileSync(libSystem, tbd([...DARWIN, ...POSIX]));
    must("ld64.lld-14", [
      ...["-bundle", "-arch", cpu, "-platform_version", "macos", "11.0"],
      ...["11.0", "-undefined", "dynamic_lookup", "-adhoc_codesign"],
      ...["-dead_strip", "-S", "-o", output, object, libSystem],
    ]);
  },
};

const windows = {
  // Windows needs the tables to unwind the stack.
  compile: ({ cpu }: Target) => [
    ...["-target", `${cpu}-pc-windows-msvc`],
    "-fasynchronous-unwind-tables",
  ],
  /** Only kernel32.dll is linked: the addon asks it for the rest. */
  link({ cpu }: Target, object: string, output: string): void {
    const definition = `${output}.def`;
    const library = `${output}.lib`;
    writeFileSync(
      definition,
      ["LIBRARY KERNEL32.dll", "EXPORTS", ...KERNEL32, ""].join("\n"),
    );
    const [machine, lldMachine] = cpu === "x86_64"
      ? ["i386:x86-64", "x64"]
      : ["arm64", "arm64"];
    must("llvm-dlltool-14", ["-m", machine, "-d", definition, "-l", library]);
    must("lld-link-14", [
      ...["/dll", "/noentry", "/nodefaultlib", "/Brepro", "/opt:ref"],
      ...[`/machine:${lldMachine}`, `/out:${output}`, object, library],
    ]);
  },
};

/** The most frequent first, because unpacking ends with the one that it wants. */
const TARGETS: Readonly<Record<keyof typeof FILES, Target>> = {
  "linux-x64": { cpu: "x86_64", ...linux },
  "linux-arm64": { cpu: "aarch64", ...linux },
  "win32-x64": { cpu: "x86_64", ...windows },
  "win32-arm64": { cpu: "aarch64", ...windows },
  "darwin-x64": { cpu: "x86_64", ...darwin },
  "darwin-arm64": { cpu: "arm64", ...darwin },
};

/** What the addon calls, besides Node-API. */
const POSIX = ["dlopen", "dlsym", "free", "malloc"];
/** On macOS also. The linker needs the last name. */
const DARWIN = ["__error", "dyld_stub_binder"];
const KERNEL32 = [
  "GetLastError",
  "GetModuleHandleA",
  "GetProcAddress",
  "GetProcessHeap",
  "HeapAlloc",
  "HeapFree",
  "SetLastError",
];

const COMPILER_OPTIONS = [
  ...["-std=c11", "-ffreestanding", "-Wall", "-Wextra", "-Werror", "-Oz"],
  ...["-fvisibility=hidden", "-fno-stack-protector", "-fno-ident"],
  ...["-fno-asynchronous-unwind-tables", "-fomit-frame-pointer", "-c"],
];

/** Returns what is wrong with the generated file without compiling, or `""`. */
export function staleAddon(): string {
  return sha256(readFileSync(source)) === SOURCE_SHA256
    ? ""
    : "ffi/addon/addon.c has changed: run node scripts/addon.mjs";
}

/** Returns whether the compiler is installed that makes the same bytes. */
export function hasCompiler(): boolean {
  const { stdout } = spawnSync("clang-14", ["--version"], { encoding: "utf8" });
  return stdout?.includes(VERSION) ?? false;
}

/** Compiles, and returns what differs from the generated file, or `""`. */
export function compareAddon(): string {
  return Object.entries(compileAll()).filter(([name, bytes]) =>
    !bytes.equals(unpack(name) ?? Buffer.alloc(0))
  ).map(([name]) =>
    `ffi/addon/binaries.ts: ${name} differs from what the compiler makes`
  ).join("\n");
}

/** Writes the addon of each target to a folder, as `PLATFORM-ARCH.node`. */
export function writeAddons(folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (const name of Object.keys(FILES)) {
    writeFileSync(join(folder, `${name}.node`), unpack(name)!);
  }
}

function compileAll(): Record<string, Buffer> {
  const folder = mkdtempSync(join(tmpdir(), "portalock addon-"));
  try {
    return Object.fromEntries(
      Object.entries(TARGETS).map(([name, target]) => {
        const object = join(folder, `${name}.o`);
        const output = join(folder, `${name}.node`);
        const options = [...COMPILER_OPTIONS, ...target.compile(target)];
        must("clang-14", [...options, "-o", object, source]);
        target.link(target, object, output);
        return [name, readFileSync(output)];
      }),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The linkers for POSIX would leave every unknown symbol to the loader. */
function refuseOtherSymbols(object: string, allowed: string[]): void {
  const symbols = must("llvm-nm-14", ["-u", "-j", object]).split("\n")
    .map((name) => name.trim()).filter((name) => name !== "");
  const others = symbols.filter((name) =>
    !/^_?napi_/.test(name) && !allowed.includes(name)
  );
  if (others.length > 0) {
    throw new Error(`addon.c must not need ${others.join(", ")}`);
  }
}

/** Returns a description of macOS's C library for the linker. */
function tbd(names: string[]): string {
  const symbols = names.map((name) =>
    name === "dyld_stub_binder" ? name : `_${name}`
  );
  return `\
--- !tapi-tbd
tbd-version: 4
targets: [ x86_64-macos, arm64-macos ]
install-name: '/usr/lib/libSystem.B.dylib'
exports:
  - targets: [ x86_64-macos, arm64-macos ]
    symbols: [ ${symbols.join(", ")} ]
...
`;
}

/** Writes the generated file, and prints the sizes. */
export function writeBinaries(): void {
  const files = compileAll();
  let end = 0;
  const ranges = Object.entries(files).map(([name, { length }]) =>
    `  "${name}": [${end}, ${end += length}],\n`
  );
  const all = Buffer.concat(Object.values(files));
  const compressed = compress(all);
  writeFileSync(
    generated,
    `\
/** Generated from \`addon.c\` by \`node scripts/addon.mjs\`. */

/** The SHA-256 of \`addon.c\`. */
export const SOURCE_SHA256 =
  "${sha256(readFileSync(source))}";

/** Where the addon of each target begins and ends in the content. */
export const FILES = {
${ranges.join("")}} as const;

/** The content, as a block of LZ4, in base64. */
export const COMPRESSED =
  "${Buffer.from(compressed).toString("base64")}";
`,
  );
  for (const [name, { length }] of Object.entries(files)) {
    console.log(`${name}: ${length} bytes`);
  }
  console.log(`all: ${compressed.length} bytes, compressed`);
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
