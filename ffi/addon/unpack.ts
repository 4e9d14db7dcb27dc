/** Unpacks the addon from the JavaScript that contains it. */

import { Buffer } from "node:buffer";
import { COMPRESSED, FILES } from "./binaries.ts";

/** A length with this value in the token continues in further bytes. */
const TOKEN_LIMIT = 15;
/** The length of a match that the token says is 0. */
const MIN_MATCH = 4;

/**
 * Returns the bytes of the addon for a target such as `"linux-x64"`, or
 * `undefined` if it does not exist.
 */
export function unpack(target: string): Uint8Array | undefined {
  if (!Object.hasOwn(FILES, target)) return undefined;
  const [start, end] = FILES[target as keyof typeof FILES];
  return decompress(Buffer.from(COMPRESSED, "base64"), end).subarray(start);
}

/**
 * Decompresses the beginning of a block of LZ4. node:zlib aborts the process if
 * a worker is terminated while it creates a decoder: "close before init".
 */
function decompress(block: Uint8Array, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  let [from, to] = [0, 0];
  const next = () => block[from++]!;
  const length = (inToken: number) => {
    let length = inToken;
    if (inToken < TOKEN_LIMIT) return length;
    for (let more = 255; more === 255;) length += more = next();
    return length;
  };
  while (to < size) {
    const token = next();
    for (let rest = length(token >> 4); rest > 0; rest--) bytes[to++] = next();
    if (to >= size) break;
    const distance = next() | next() << 8;
    // The match may overlap with what it is copied to.
    for (let rest = length(token & 15) + MIN_MATCH; rest > 0; rest--, to++) {
      bytes[to] = bytes[to - distance]!;
    }
  }
  return bytes;
}
