/** Values as C lays them out. */

/** Text as C takes it. */
export function cString(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`);
}

/** The memory of an array of `int`. */
export function asBytes(numbers: Int32Array): Uint8Array {
  return new Uint8Array(numbers.buffer);
}
