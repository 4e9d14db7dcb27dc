/** The hash slots of keys in a cluster. */

const SLOTS = 16_384;

/** The polynomial of CRC-16/XMODEM. */
const POLYNOMIAL = 0x1021;

/** Returns the slot of a key, or of a sharded channel. */
export function keySlot(key: string): number {
  let crc = 0;
  for (const byte of new TextEncoder().encode(hashedPart(key))) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) {
      crc = crc & 0x8000 ? crc << 1 ^ POLYNOMIAL : crc << 1;
    }
    crc &= 0xffff;
  }
  return crc % SLOTS;
}

/** Returns the hash tag of a key, or the whole key if it does not have one. */
function hashedPart(key: string): string {
  const open = key.indexOf("{");
  if (open === -1) return key;
  const close = key.indexOf("}", open);
  return close > open + 1 ? key.slice(open + 1, close) : key;
}
