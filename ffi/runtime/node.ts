/** Node calls C through `node:ffi` (26 and newer) or the `koffi` package. */

import { createRequire } from "node:module";
import process from "node:process";
import { errorCode, Unsupported } from "../types.ts";
import type { CFunction, CType, FfiRuntime, Signature } from "../types.ts";

interface NodeFfi {
  dlopen(
    library: string,
    symbols: Record<string, unknown>,
  ): { functions: Record<string, (...values: unknown[]) => unknown> };
  getInt32(address: bigint, offset: number): number;
}

interface Koffi {
  load(library: string): {
    func(name: string, result: string, parameters: string[]): CFunction;
  };
  errno(): number;
}

const NODE_NAMES: Record<CType, string> = {
  i32: "int32",
  i64: "int64",
  usize: "uint64",
  buffer: "buffer",
};

const KOFFI_NAMES: Record<CType, string> = {
  i32: "int32_t",
  i64: "int64_t",
  usize: "size_t",
  buffer: "uint8_t *",
};

interface NodeNet {
  Socket: new (options: object) => {
    on(event: "error", listener: () => void): void;
    unref(): void;
  };
}

/** So much is read at a time from a {@linkcode FfiRuntime.readStream}. */
const CHUNK = 16 * 1024;

const here = createRequire(import.meta.url);

/** The runtime axis for Node. */
export function nodeRuntime(): FfiRuntime {
  const ffi = load<NodeFfi>(here, "node:ffi");
  if (ffi && permits("ffi")) return builtIn(ffi);
  const koffi = load<Koffi>(here, "koffi") ??
    load<Koffi>(createRequire(`${process.cwd()}/`), "koffi");
  if (koffi) return withKoffi(koffi);
  throw new Unsupported(
    ffi
      ? "Node's permission model forbids calls to the system; pass --allow-ffi"
      : `Node ${process.version} cannot call the system by itself; ` +
        "install the koffi package (npm install koffi) or use Node 26 or newer",
  );
}

/** A module that this version or this installation may not have. */
function load<Module>(
  from: NodeJS.Require,
  name: string,
): Module | undefined {
  const { emitWarning } = process;
  // Users cannot help that node:ffi is experimental.
  process.emitWarning = () => {};
  try {
    return from(name) as Module;
  } catch (error) {
    const code = errorCode(error);
    if (code === "MODULE_NOT_FOUND" || code === "ERR_UNKNOWN_BUILTIN_MODULE") {
      return undefined;
    }
    throw new Unsupported(`${name} cannot be loaded: ${error}`, {
      cause: error,
    });
  } finally {
    process.emitWarning = emitWarning;
  }
}

/** What Node's permission model says, where it is switched on. */
function permits(scope: string): boolean {
  const { permission } = process as {
    permission?: { has(scope: string): boolean };
  };
  return permission?.has(scope) ?? true;
}

/** Not `fs.read`, which would park one of the few threads that serve all. */
function stream(pipe: number, arrived: (bytes: Uint8Array) => void): void {
  const { Socket } = here("node:net") as NodeNet;
  const callback = (count: number, bytes: Uint8Array) => {
    arrived(bytes.subarray(0, count));
    return true;
  };
  const socket = new Socket({
    fd: pipe,
    readable: true,
    writable: false,
    onread: { buffer: new Uint8Array(CHUNK), callback },
  });
  socket.on("error", () => {});
  socket.unref();
}

function builtIn(ffi: NodeFfi): FfiRuntime {
  const signature = (parameters: string[], result: string) => ({
    arguments: parameters,
    return: result,
    // The names that the first releases had.
    parameters,
    result,
  });
  return {
    bind(library, functions) {
      const symbols = Object.fromEntries(
        Object.entries<Signature>(functions).map(([name, type]) => [
          name,
          signature(
            type.parameters.map((parameter) => NODE_NAMES[parameter]),
            NODE_NAMES[type.result],
          ),
        ]),
      );
      return ffi.dlopen(library, symbols).functions as Record<
        keyof typeof functions,
        CFunction
      >;
    },
    errno(library, locator) {
      const { functions } = ffi.dlopen(library, {
        [locator]: signature([], "pointer"),
      });
      // Once, for the thread's errno stays where it is. And never in a loop:
      // Node 26.10 crashes now and then when V8 optimizes a call to a C
      // function without parameters.
      const address = functions[locator]() as bigint;
      return () => ffi.getInt32(address, 0);
    },
    readStream: stream,
  };
}

function withKoffi(koffi: Koffi): FfiRuntime {
  return {
    bind(library, functions) {
      const lib = koffi.load(library);
      return Object.fromEntries(
        Object.entries<Signature>(functions).map(([name, type]) => [
          name,
          lib.func(
            name,
            KOFFI_NAMES[type.result],
            type.parameters.map((parameter) => KOFFI_NAMES[parameter]),
          ),
        ]),
      ) as Record<keyof typeof functions, CFunction>;
    },
    errno: () => () => koffi.errno(),
    readStream: stream,
  };
}
