/**
 * Calls C on Node, through `node:ffi` (Node 26 and newer) or the `koffi`
 * package.
 */

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

const NODE_TYPES: Record<CType, string> = {
  i32: "int32",
  i64: "int64",
  usize: "uint64",
  buffer: "buffer",
};

const KOFFI_TYPES: Record<CType, string> = {
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

/** An internal object of Node, whose method `open` is native. */
interface Pipe {
  open(fd: number): number;
}

interface WithBinding {
  binding(name: "pipe_wrap"): {
    Pipe: new (type: number) => Pipe;
    constants: { SOCKET: number };
  };
}

/** Size of the buffer of {@linkcode FfiRuntime.readStream}, in bytes. */
const STREAM_BUFFER_SIZE = 16 * 1024;

const requireHere = createRequire(import.meta.url);

/**
 * Returns the {@linkcode FfiRuntime} of Node.
 *
 * @throws {Unsupported} If this Node cannot call C.
 */
export function nodeRuntime(): FfiRuntime {
  const ffi = load<NodeFfi>(requireHere, "node:ffi");
  if (ffi && isPermitted("ffi")) return withNodeFfi(ffi);
  const koffi = load<Koffi>(requireHere, "koffi") ??
    load<Koffi>(createRequire(`${process.cwd()}/`), "koffi");
  if (koffi) return withKoffi(koffi);
  throw new Unsupported(
    ffi
      ? "the permission model of Node denies FFI; pass --allow-ffi"
      : `Node ${process.version} does not have FFI; ` +
        "install the koffi package (npm install koffi) or use Node 26 or newer",
  );
}

/**
 * Loads a module.
 *
 * @returns `undefined` if this version or installation does not have it.
 * @throws {Unsupported} If the module exists but fails to load.
 */
function load<Module>(
  from: NodeJS.Require,
  name: string,
): Module | undefined {
  try {
    return withoutWarnings(() => from(name) as Module);
  } catch (error) {
    const code = errorCode(error);
    if (code === "MODULE_NOT_FOUND" || code === "ERR_UNKNOWN_BUILTIN_MODULE") {
      return undefined;
    }
    throw new Unsupported(`${name} failed to load: ${error}`, {
      cause: error,
    });
  }
}

/**
 * Runs a function without its warnings, which users cannot change: node:ffi is
 * experimental, and the internals of Node are deprecated.
 */
function withoutWarnings<T>(body: () => T): T {
  const { emitWarning } = process;
  process.emitWarning = () => {};
  try {
    return body();
  } finally {
    process.emitWarning = emitWarning;
  }
}

/** Returns whether the permission model of Node, if enabled, allows a scope. */
function isPermitted(scope: string): boolean {
  const { permission } = process as {
    permission?: { has(scope: string): boolean };
  };
  return permission?.has(scope) ?? true;
}

/**
 * Implements {@linkcode FfiRuntime.readStream} by a socket. `fs.read` would
 * block one of the few threads of the pool, which all workers share.
 */
function readStream(pipe: number, arrived: (bytes: Uint8Array) => void): void {
  readSocket({ fd: pipe }, arrived);
}

/**
 * Implements {@linkcode FfiRuntime.openStream}. When a worker ends, Node closes
 * the descriptor that the method `open` of its internal pipe got. V8 terminates
 * a worker only when it calls or loops in JavaScript, so not between the end of
 * `openFd` and this method. The constructor of a socket calls the method after
 * 2 ms. The permission model denies the access to the pipe.
 */
function openStream(
  openFd: () => number,
  arrived: (bytes: Uint8Array) => void,
): number {
  const handle = newPipe();
  if (!handle) return -1;
  const fd = openFd();
  if (fd < 0) return -1;
  handle.open(fd);
  readSocket({ handle }, arrived);
  return fd;
}

function newPipe(): Pipe | undefined {
  return withoutWarnings(() => {
    try {
      const { Pipe, constants } = (process as unknown as WithBinding).binding(
        "pipe_wrap",
      );
      return new Pipe(constants.SOCKET);
    } catch {
      return undefined;
    }
  });
}

function readSocket(
  source: { fd: number } | { handle: Pipe },
  arrived: (bytes: Uint8Array) => void,
): void {
  const { Socket } = requireHere("node:net") as NodeNet;
  const callback = (count: number, bytes: Uint8Array) => {
    arrived(bytes.subarray(0, count));
    return true;
  };
  const socket = new Socket({
    ...source,
    readable: true,
    writable: false,
    onread: { buffer: new Uint8Array(STREAM_BUFFER_SIZE), callback },
  });
  socket.on("error", () => {});
  socket.unref();
}

function withNodeFfi(ffi: NodeFfi): FfiRuntime {
  const signature = (parameters: string[], result: string) => ({
    arguments: parameters,
    return: result,
    // The names in the first releases.
    parameters,
    result,
  });
  return {
    bind(library, functions) {
      const symbols = Object.fromEntries(
        Object.entries<Signature>(functions).map(([name, type]) => [
          name,
          signature(
            type.parameters.map((parameter) => NODE_TYPES[parameter]),
            NODE_TYPES[type.result],
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
      // Called once, because the address is constant for a thread. Node 26.10
      // sometimes crashes when V8 optimizes a call to a C function without
      // parameters, so such a function must not be called in a loop.
      const address = (functions[locator] as () => bigint)();
      return () => ffi.getInt32(address, 0);
    },
    closesFilesOfWorkers: true,
    readStream,
    openStream,
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
            KOFFI_TYPES[type.result],
            type.parameters.map((parameter) => KOFFI_TYPES[parameter]),
          ),
        ]),
      ) as Record<keyof typeof functions, CFunction>;
    },
    errno: () => () => koffi.errno(),
    closesFilesOfWorkers: true,
    readStream,
    openStream,
  };
}
