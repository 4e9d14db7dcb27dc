/**
 * Counts the functions of this package that one warm, uncontended `acquire()`
 * executes, by V8's precise coverage. Runs on Node 26, which has `node:ffi`:
 *
 * ```sh
 * node bench/warm_path.ts [--list=FORM] [CHECKOUT]
 * ```
 *
 * A function counts if V8 reports at least one call of it during the measured
 * call, and if its source is in `src/` or `ffi/` of the checkout. Methods,
 * accessors, arrow functions and constructors are functions. The initializers
 * of a class's fields are one function, which V8 calls
 * `<instance_members_initializer>`. A file counts if one of its functions does.
 * Runtime built-ins (`node:fs`, promises) do not count.
 *
 * Before each measurement, every call has run 100 times and the event loop has
 * turned once. So modules are loaded, libraries are bound, and the path is
 * known to be on a local file system.
 */

import { Session } from "node:inspector";
import type { Profiler } from "node:inspector";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import process from "node:process";
import { setImmediate as nextTurn } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

const WARM_UP_CALLS = 100;

/** Longer than `acquire()` lets the event loop wait, in milliseconds. */
const BLOCKED_MS = 20;

/** The parts of the public API that the measurements need. */
interface LockLike {
  acquire(): Promise<unknown>;
  acquireSync(): unknown;
  release(): Promise<unknown>;
  releaseSync(): unknown;
}

interface Api {
  Lock: new (path: string) => LockLike;
}

/** What one measurement executes. */
interface Form {
  readonly name: string;
  readonly description: string;
  run(api: Api, path: string, warm: LockLike): Promise<LockLike>;
  /** The coverage ends at the call of flock(2). */
  readonly untilFlock?: boolean;
  /** The coverage includes the release. */
  readonly withRelease?: boolean;
  /** The thread has blocked the event loop, so that `acquire()` yields. */
  readonly blocked?: boolean;
}

const acquireNew: Form["run"] = async ({ Lock }, path) => {
  const lock = new Lock(path);
  await lock.acquire();
  return lock;
};

const acquireWarm: Form["run"] = async (_api, _path, warm) => {
  await warm.acquire();
  return warm;
};

// deno-lint-ignore require-await
const acquireNewSync: Form["run"] = async ({ Lock }, path) => {
  const lock = new Lock(path);
  lock.acquireSync();
  return lock;
};

const FORMS: readonly Form[] = [
  {
    name: "new-flock",
    description: "new Lock(p).acquire(), to flock(2)",
    run: acquireNew,
    untilFlock: true,
  },
  {
    name: "flock",
    description: "lock.acquire(), to flock(2)",
    run: acquireWarm,
    untilFlock: true,
  },
  {
    name: "new-flock-sync",
    description: "new Lock(p).acquireSync(), to flock(2)",
    run: acquireNewSync,
    untilFlock: true,
  },
  {
    name: "new-acquire",
    description: "new Lock(p).acquire(), until it resolves",
    run: acquireNew,
  },
  {
    name: "acquire",
    description: "lock.acquire(), until it resolves",
    run: acquireWarm,
  },
  {
    name: "acquire-yield",
    description: "lock.acquire() that first yields to the event loop",
    run: acquireWarm,
    blocked: true,
  },
  {
    name: "new-cycle",
    description: "new Lock(p).acquire() and release()",
    run: acquireNew,
    withRelease: true,
  },
  {
    name: "cycle",
    description: "lock.acquire() and release()",
    run: acquireWarm,
    withRelease: true,
  },
];

/** A function that was executed. */
interface Executed {
  readonly line: number;
  readonly name: string;
}

/** The executed functions of one file, in the order of its code. */
interface ExecutedFile {
  readonly path: string;
  readonly functions: readonly Executed[];
}

/** Measures one form in this process. */
async function measure(
  form: Form,
  checkout: string,
): Promise<{ files: ExecutedFile[]; stack: string[] }> {
  const module = pathToFileURL(join(checkout, "mod.ts")).href;
  const api = await import(module) as Api;
  const folder = mkdtempSync(join(tmpdir(), "portalock-warm-path-"));
  const session = new Session();
  session.connect();
  try {
    const path = join(folder, "a.lock");
    const warm = new api.Lock(path);
    for (let i = 0; i < WARM_UP_CALLS; i++) {
      await (await form.run(api, path, warm)).release();
    }
    session.post("Profiler.enable");
    session.post("Profiler.startPreciseCoverage", { callCount: true });
    // Without a turn of the event loop, `acquire()` might yield to it or not.
    await nextTurn();
    if (form.blocked) await blockEventLoop(warm);
    let coverage: Profiler.ScriptCoverage[] | undefined;
    let stack: string[] = [];
    takeCoverage(session);
    onFlock = () => {
      onFlock = () => {};
      if (!form.untilFlock) return;
      coverage = takeCoverage(session);
      stack = stackIn(checkout);
    };
    const lock = await form.run(api, path, warm);
    if (!form.withRelease) coverage ??= takeCoverage(session);
    await lock.release();
    coverage ??= takeCoverage(session);
    if (form.untilFlock && stack.length === 0) {
      throw new Error("acquire() did not call flock(2) through node:ffi");
    }
    return { files: executedFiles(coverage, checkout), stack };
  } finally {
    session.disconnect();
    rmSync(folder, { recursive: true });
  }
}

/** Runs before each call of flock(2) through `node:ffi`. */
let onFlock = (): void => {};

/** Makes what is bound from now on call {@linkcode onFlock}. */
function interceptFlock(): void {
  type CFunction = (...values: unknown[]) => unknown;
  interface NodeFfi {
    dlopen(
      library: string,
      symbols: Record<string, unknown>,
    ): { functions: Record<string, CFunction> };
  }
  const ffi = createRequire(import.meta.url)("node:ffi") as NodeFfi;
  const { dlopen } = ffi;
  ffi.dlopen = (library, symbols) => {
    const opened = dlopen(library, symbols);
    const { flock } = opened.functions;
    if (flock === undefined) return opened;
    const intercepted: CFunction = (...values) => {
      onFlock();
      return flock(...values);
    };
    return {
      ...opened,
      functions: { ...opened.functions, flock: intercepted },
    };
  };
}

/** Keeps the thread busy after an acquire, without a turn of the loop. */
async function blockEventLoop(lock: LockLike): Promise<void> {
  await lock.acquire();
  await lock.release();
  const end = performance.now() + BLOCKED_MS;
  while (performance.now() < end);
}

/** Returns the calls since the last time, and starts counting from zero. */
function takeCoverage(session: Session): Profiler.ScriptCoverage[] {
  let result: Profiler.ScriptCoverage[] = [];
  // The session belongs to this thread, so the callback runs synchronously.
  session.post("Profiler.takePreciseCoverage", (error, coverage) => {
    if (error) throw error;
    result = coverage.result;
  });
  return result;
}

/** The frames of the package that are on the stack, outermost first. */
function stackIn(checkout: string): string[] {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 100;
  const { stack } = new Error();
  Error.stackTraceLimit = stackTraceLimit;
  const folder = `${pathToFileURL(checkout).href}/`;
  return (stack ?? "").split("\n")
    .map((line) => line.trim().replace(/^at /, ""))
    .filter((line) => /\/(src|ffi)\//.test(line) && line.includes(folder))
    .map((line) => line.replace(folder, ""))
    .reverse();
}

function executedFiles(
  coverage: readonly Profiler.ScriptCoverage[],
  checkout: string,
): ExecutedFile[] {
  const folder = `${pathToFileURL(checkout).href}/`;
  return coverage
    .filter(({ url }) =>
      url.startsWith(`${folder}src/`) || url.startsWith(`${folder}ffi/`)
    )
    .map(({ url, functions }) => ({
      path: url.slice(folder.length),
      functions: executed(functions, readFileSync(fileURLToPath(url), "utf8")),
    }))
    .filter(({ functions }) => functions.length > 0)
    .sort((a, b) => a.path < b.path ? -1 : 1);
}

function executed(
  functions: readonly Profiler.FunctionCoverage[],
  source: string,
): Executed[] {
  return functions
    .map(({ functionName, ranges: [range] }) => ({
      name: functionName || "(anonymous)",
      start: range?.startOffset ?? 0,
      count: range?.count ?? 0,
    }))
    .filter(({ count }) => count > 0)
    .sort((a, b) => a.start - b.start)
    .map(({ name, start }) => ({
      // Stripping types keeps each character at its offset.
      line: source.slice(0, start).split("\n").length,
      name,
    }));
}

const USAGE = `Usage: node bench/warm_path.ts [--list=FORM] [CHECKOUT]

Counts the files and functions of src/ and ffi/ that one warm, uncontended
acquire executes. Needs Node 26. CHECKOUT is a folder that contains mod.ts of
this package, by default the one of this script.

  --list=FORM  Print the files and functions of one form, in the order of the
               code, and the call stack at flock(2)

Forms:
${
  FORMS.map(({ name, description }) => `  ${name.padEnd(15)}  ${description}`)
    .join("\n")
}
`;

async function main(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { list: { type: "string" }, help: { type: "boolean" } },
  });
  if (values.help) return console.log(USAGE.trimEnd());
  const checkout = resolve(
    positionals[0] ?? dirname(dirname(fileURLToPath(import.meta.url))),
  );
  const forms = FORMS.filter(({ name }) => name === (values.list ?? name));
  if (forms.length === 0) {
    throw new Error(
      `unknown form "${values.list}" (expected one of ${
        FORMS.map(({ name }) => name).join(", ")
      })`,
    );
  }
  interceptFlock();
  for (const form of forms) {
    const { files, stack } = await measure(form, checkout);
    const count = files.reduce((sum, file) => sum + file.functions.length, 0);
    console.log(
      `${form.name.padEnd(15)}${`${files.length}`.padStart(3)} files` +
        `${`${count}`.padStart(4)} functions  ${form.description}`,
    );
    if (values.list === undefined) continue;
    for (const { path, functions } of files) {
      console.log(`\n${path} (${functions.length})`);
      for (const { line, name } of functions) console.log(`  ${line}: ${name}`);
    }
    if (stack.length === 0) continue;
    console.log("\nThe call stack at flock(2), outermost first:");
    for (const frame of stack) console.log(`  ${frame}`);
  }
}

if (import.meta.main) {
  try {
    await main(process.argv.slice(2));
  } catch (error) {
    console.error(`warm_path: ${(error as Error).message}`);
    process.exitCode = 1;
  }
}
