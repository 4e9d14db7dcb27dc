/**
 * The test environment: the checkout, the runtimes for child processes, and
 * what else `scripts/test.mjs` passes in `PORTALOCK_TEST`.
 */

import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** A runtime that tests can start child processes on. */
export interface TestRuntime {
  name: string;
  command: string[];
  /** The folder with `mod` and `tests/`, in files with this extension. */
  directory: string;
  extension: ".ts" | ".js";
}

/** The system below Wine, which starts servers for the programs under Wine. */
export interface ServerHost {
  port: number;
  /** The host starts a server only if a request contains this secret. */
  secret: string;
  /** The names of the programs that are installed on the host. */
  programs: string[];
}

/** The content of `PORTALOCK_TEST`, as JSON. */
interface TestEnv {
  /** The path of the checkout. */
  root: string;
  runtimes: TestRuntime[];
  /** The path of a Python that can import portalocker. */
  python: string | null;
  /** A folder with a newer portalocker than Debian's, and redis-py. */
  newerPortalocker: string | null;
  /** The oldest supported versions. */
  oldest: TestRuntime[];
  /** A Bun that is linked against musl. */
  musl?: TestRuntime | null;
  /** The path of a program that locks as Python does on Windows. */
  peer?: string;
  /** Where servers are started. By default the tests start them directly. */
  host?: ServerHost;
}

/** The folder with `mod` and `tests/`. */
const checkout = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

/** The test environment. Without the script it has the current runtime only. */
export const testEnv: TestEnv = process.env.PORTALOCK_TEST
  ? JSON.parse(process.env.PORTALOCK_TEST)
  : {
    root: checkout,
    runtimes: [],
    python: null,
    newerPortalocker: null,
    oldest: [],
  };

/** Whether this process runs on Deno. */
export const isDeno = "Deno" in globalThis;

/** The runtime of this process. */
export const currentRuntime: TestRuntime = {
  name: isDeno ? "deno" : process.versions.bun ? "bun" : "node",
  command: isDeno
    ? [process.execPath, "run", "-A", "--no-check", "-q"]
    : [process.execPath],
  directory: checkout,
  extension: import.meta.url.endsWith(".ts") ? ".ts" : ".js",
};

/** The runtimes to start child processes on. */
export const runtimes: TestRuntime[] = testEnv.runtimes.length > 0
  ? testEnv.runtimes
  : [currentRuntime];

/** The versions of Node, without the FFI that the newest have. */
export const addonRuntimes: TestRuntime[] = runtimes
  .filter(({ name }) => name.startsWith("node"))
  .map((runtime) =>
    runtime.name === "node26" || runtime === currentRuntime && hasFfi()
      ? { ...runtime, command: [...runtime.command, "--no-experimental-ffi"] }
      : runtime
  );

function hasFfi(): boolean {
  return Number.parseInt(process.versions.node) >= 26;
}

/** Deno with every permission except FFI. */
const denoWithoutFfi = runtimes.filter(({ name }) => name === "deno").map(
  (runtime) => {
    const [program = process.execPath] = runtime.command;
    const allowed = ["read", "write", "run", "env", "sys"];
    const options = allowed.map((name) => `--allow-${name}`);
    const command = [program, "run", "--no-check", "-q", ...options];
    return { ...runtime, name: "deno without FFI", command };
  },
);

/** The {@linkcode runtimes}, and Deno without FFI. */
export const allRuntimes: TestRuntime[] = [...runtimes, ...denoWithoutFfi];

/** Returns Deno with these permissions only. */
export function denoWith(...permissions: string[]): TestRuntime {
  const deno = runtimes.find(({ name }) => name === "deno");
  if (deno === undefined) throw new Error("Deno is not installed");
  const command = [
    ...deno.command.filter((argument) => argument !== "-A"),
    "--no-prompt",
    ...permissions,
  ];
  return { ...deno, command };
}

/** Returns the command that runs a script of `tests/fixtures` on a runtime. */
export function fixtureCommand(
  { command, directory, extension }: TestRuntime,
  name: string,
): string[] {
  return [...command, join(directory, "tests", "fixtures", name) + extension];
}
