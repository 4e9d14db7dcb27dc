/** Tables of calls whose errors must begin with the line of the caller. */

import assert from "node:assert/strict";

/** A line of a stack. */
interface Frame {
  readonly file: string;
  readonly line: number;
}

/** What a row needs, released after the call. */
export class Fixture {
  readonly #cleanups: (() => unknown)[] = [];

  /** Releases something after the call, the latest first. */
  after(cleanup: () => unknown): void {
    this.#cleanups.push(cleanup);
  }

  /** Disposes a value after the call. */
  keep<T extends Disposable | AsyncDisposable>(value: T): T {
    this.after(() =>
      Symbol.dispose in value
        ? value[Symbol.dispose]()
        : value[Symbol.asyncDispose]()
    );
    return value;
  }

  async end(): Promise<void> {
    for (const cleanup of this.#cleanups.reverse()) {
      try {
        await cleanup();
      } catch {
        // A row that makes releasing fail.
      }
    }
  }
}

/** One call of a public function that throws an error of one class. */
interface Row {
  readonly of: string;
  readonly error: string;
  readonly throws: () => Promise<unknown>;
}

/** This file, as stacks name it. */
const here = frames(new Error().stack)[0]?.file;

/** The table of one test file. */
export class ErrorTable<F extends Fixture> {
  readonly #rows: Row[] = [];
  readonly #fixture: () => F;
  readonly #file: string | undefined;

  /** Is called by the test file. */
  constructor(fixture: () => F) {
    this.#fixture = fixture;
    this.#file = frames(new Error().stack)[1]?.file;
  }

  /**
   * Adds a call.
   *
   * @param of The public function, such as `"LockBase.acquire"`.
   * @param error The code of the error, or its name.
   * @param prepare Prepares what is called.
   * @param call Calls the function. This is where the stack must begin.
   */
  row<T>(
    of: string,
    error: string,
    prepare: (fixture: F) => T | Promise<T>,
    call: (prepared: T) => unknown,
  ): void {
    const throws = async () => {
      const fixture = this.#fixture();
      try {
        return await thrownBy(call, await prepare(fixture));
      } finally {
        await fixture.end();
      }
    };
    this.#rows.push({ of, error, throws });
  }

  /** The public functions of the table. */
  get functions(): string[] {
    return [...new Set(this.#rows.map(({ of }) => of))];
  }

  /** Makes all calls of one function. */
  async check(of: string): Promise<void> {
    const problems: string[] = [];
    for (const { error, throws } of this.#rows.filter((row) => row.of === of)) {
      const problem = problemOf(error, this.#file, await throws());
      if (problem) problems.push(`${of}, ${error}: ${problem}`);
    }
    assert.equal(problems.join("\n"), "");
  }
}

/** What a call throws, or what its promise rejects with. */
export async function thrownBy<T>(
  call: (prepared: T) => unknown,
  prepared: T,
): Promise<unknown> {
  let result: unknown;
  try {
    // Not awaited here, so that no runtime can find the caller by the `await`.
    result = call(prepared);
  } catch (error) {
    return error;
  }
  return await Promise.resolve(result).then(() => undefined, (error) => error);
}

function problemOf(
  expected: string,
  file: string | undefined,
  error: unknown,
): string | undefined {
  if (!(error instanceof Error)) return `threw ${error}`;
  const { code, name } = error as Error & { code?: string };
  // Each error of this package has a code.
  if ("errno" in error && code === undefined) return `no code: ${begin(error)}`;
  if (expected !== code && expected !== name) return `threw ${begin(error)}`;
  // The caller, which `thrownBy` called.
  const [first, second] = frames(error.stack);
  const begins = first?.file === file && second?.file === here;
  if (begins && name === "SuppressedError") {
    const { error: inner } = error as Error & { error?: unknown };
    return problemOf("LockException", file, inner);
  }
  return begins ? undefined : `does not begin with the caller: ${begin(error)}`;
}

function begin({ name, message, stack }: Error): string {
  const lines = stack?.split("\n") ?? [`no stack: ${name}: ${message}`];
  return lines.slice(0, 4).join("\n");
}

/** The frames of a stack, as V8 and JavaScriptCore write them. */
export function frames(stack: string | undefined): Frame[] {
  const lines = (stack ?? "").split("\n").filter((line) =>
    /^ {4}at /.test(line)
  );
  return lines.map((line) => {
    const [, file = line, number = "0"] =
      /^ {4}at (?:.* \(|async )?(.+?):(\d+):\d+\)?$/.exec(line) ?? [];
    return { file, line: Number(number) };
  });
}

/**
 * The names of all functions of modules that a user can call: `"lockAll"`,
 * `"Lock"` for a constructor, `"Lock.acquire"` for a method.
 */
export function publicFunctions(...modules: object[]): string[] {
  const names = new Set<string>();
  const add = (prefix: string, object: object) => {
    for (const key of Reflect.ownKeys(object)) {
      const { value } = Object.getOwnPropertyDescriptor(object, key)!;
      if (key === "constructor" || typeof value !== "function") continue;
      const name = typeof key === "symbol"
        // Node 20 has its own names for those that it polyfills.
        ? `[${key.description?.replace("nodejs.", "Symbol.")}]`
        : key;
      names.add(`${prefix}.${name}`);
    }
  };
  for (const [name, value] of modules.flatMap((all) => Object.entries(all))) {
    if (typeof value !== "function") continue;
    names.add(name);
    if (!/^class\b/.test(String(value))) continue;
    add(name, value);
    // Up to the classes of the language.
    let { prototype } = value;
    while (!/native code/.test(String(prototype.constructor))) {
      add(prototype.constructor.name, prototype);
      prototype = Object.getPrototypeOf(prototype);
    }
  }
  return [...names].sort();
}
