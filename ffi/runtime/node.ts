/**
 * Calls C on Node, through `node:ffi` (Node 26 and newer) or the addon of this
 * package.
 */

import { addonsAreDisabled, loadAddon } from "../addon/load.ts";
import type { Addon } from "../addon/load.ts";
import { Unsupported } from "../types.ts";
import type { CFunction, CType, FfiRuntime, Signature } from "../types.ts";
import { builtin } from "./builtin.ts";
import { isPermitted, nodeFfiCalls, withoutWarnings } from "./node_calls.ts";
import type { NodeFfi } from "./node_calls.ts";

// Importing `node:process` makes the standard streams non-blocking.
const { process } = globalThis;

/** The types in the signatures of the addon: see `addon.c`. */
const ADDON_TYPES: Record<CType, string> = {
  i32: "i",
  i64: "l",
  usize: "u",
  buffer: "b",
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

/**
 * Returns the {@linkcode FfiRuntime} of Node.
 *
 * @throws {Unsupported} If this Node cannot call C.
 */
export function nodeRuntime(): FfiRuntime {
  const ffi = withoutWarnings(() => builtin<NodeFfi>("node:ffi"));
  if (ffi && isPermitted("ffi")) return withNodeFfi(ffi);
  if (ffi && addonsAreDisabled()) {
    throw new Unsupported(
      "the permission model of Node denies FFI; pass --allow-ffi",
    );
  }
  return withAddon(loadAddon());
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
  const { Socket } = builtin<NodeNet>("node:net")!;
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
  return {
    name: "node:ffi",
    ...nodeFfiCalls(ffi),
    closesFilesOfWorkers: true,
    readStream,
    openStream,
  };
}

function withAddon(addon: Addon): FfiRuntime {
  return {
    name: "the addon of this package",
    bind(library, functions) {
      // The program may have been renamed or moved since it started.
      const path = library === process.execPath ? "" : library;
      return Object.fromEntries(
        Object.entries<Signature>(functions).map((
          [name, { parameters, result }],
        ) => [
          name,
          addon.bind(
            path,
            name,
            [result, ...parameters].map((type) => ADDON_TYPES[type]).join(""),
          ),
        ]),
      ) as Record<keyof typeof functions, CFunction>;
    },
    errno: () => addon.errno,
    closesFilesOfWorkers: true,
    readStream,
    openStream,
  };
}
