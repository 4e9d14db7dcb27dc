/** Unpacks the addon from the JavaScript that contains it. */

import { Buffer } from "node:buffer";
import { builtin } from "../runtime/builtin.ts";
import { COMPRESSED, FILES } from "./binaries.ts";

interface Zlib {
  brotliDecompressSync(bytes: Uint8Array): Uint8Array;
}

/**
 * Returns the bytes of the addon for a target such as `"linux-x64"`, or
 * `undefined` if there is none.
 */
export function unpack(target: string): Uint8Array | undefined {
  if (!Object.hasOwn(FILES, target)) return undefined;
  const [start, end] = FILES[target as keyof typeof FILES];
  const { brotliDecompressSync } = builtin<Zlib>("node:zlib")!;
  return brotliDecompressSync(Buffer.from(COMPRESSED, "base64"))
    .subarray(start, end);
}
