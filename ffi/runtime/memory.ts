/** Converts values to their layout in C. */

/** Whether this machine stores the least significant byte first. */
export const littleEndian: boolean =
  new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

const encoder = new TextEncoder();

/** Returns the text as a string that ends with a zero byte. */
export function cString(text: string): Uint8Array {
  return encoder.encode(`${text}\0`);
}

/** Returns the memory of an array of `int`. */
export function asBytes(numbers: Int32Array): Uint8Array {
  return new Uint8Array(numbers.buffer);
}
