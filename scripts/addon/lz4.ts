/**
 * Compresses into the block format of LZ4, which `ffi/addon/unpack.ts`
 * decompresses.
 */

/** The least length of a match. */
const MIN_MATCH = 4;
/** The block ends with literals, and no match begins near its end. */
const LAST_LITERALS = 5;
const LAST_MATCH = 12;
const MAX_DISTANCE = 0xffff;
/** How many earlier positions with the same 4 bytes are compared. */
const MAX_CANDIDATES = 256;
/** A match of this length is taken without a look at others. */
const LONG_MATCH = 512;
/** A length that does not fit into the token continues in further bytes. */
const TOKEN_LIMIT = 15;

interface Match {
  length: number;
  distance: number;
}

/** Returns the block with the fewest bytes, if all matches are the longest. */
export function compress(bytes: Uint8Array): Uint8Array {
  const matches = cheapest(bytes, longestMatches(bytes));
  const block: number[] = [];
  let start = 0;
  for (let i = 0; i < bytes.length;) {
    const match = matches[i];
    if (match === undefined) {
      i++;
      continue;
    }
    writeSequence(block, bytes.subarray(start, i), match);
    start = i += match.length;
  }
  writeSequence(block, bytes.subarray(start), undefined);
  return Uint8Array.from(block);
}

function longestMatches(bytes: Uint8Array): Match[] {
  const last = new Map<string, number>();
  const previous: (number | undefined)[] = [];
  return Array.from(bytes, (_, i) => {
    const key = bytes.subarray(i, i + MIN_MATCH).join();
    let candidate = last.get(key);
    previous[i] = candidate;
    last.set(key, i);
    const limit = bytes.length - LAST_LITERALS - i;
    let best = { length: 0, distance: 0 };
    if (i > bytes.length - LAST_MATCH) return best;
    for (let n = 0; n < MAX_CANDIDATES && candidate !== undefined; n++) {
      const distance = i - candidate;
      if (distance > MAX_DISTANCE || best.length >= LONG_MATCH) break;
      let length = 0;
      while (
        length < limit && bytes[candidate + length] === bytes[i + length]
      ) {
        length++;
      }
      if (length > best.length) best = { length, distance };
      candidate = previous[candidate];
    }
    return best;
  });
}

/** Chooses from the end on: a literal, or a part of the longest match. */
function cheapest(
  bytes: Uint8Array,
  longest: readonly Match[],
): (Match | undefined)[] {
  const costs = new Float64Array(bytes.length + 1);
  const chosen: (Match | undefined)[] = Array(bytes.length).fill(undefined);
  for (let i = bytes.length - 1; i >= 0; i--) {
    costs[i] = costs[i + 1]! + 1;
    const { length: most, distance } = longest[i]!;
    const least = most >= LONG_MATCH ? most : MIN_MATCH;
    for (let length = most; length >= least; length--) {
      const cost = costs[i + length]! + 3 + extraBytes(length - MIN_MATCH);
      if (cost >= costs[i]!) continue;
      costs[i] = cost;
      chosen[i] = { length, distance };
    }
  }
  return chosen;
}

function extraBytes(length: number): number {
  return length < TOKEN_LIMIT
    ? 0
    : Math.floor((length - TOKEN_LIMIT) / 255) + 1;
}

function writeSequence(
  block: number[],
  literals: Uint8Array,
  match: Match | undefined,
): void {
  const length = match === undefined ? 0 : match.length - MIN_MATCH;
  const [high, low] = [literals.length, length].map((value) =>
    Math.min(value, TOKEN_LIMIT)
  ) as [number, number];
  block.push(high << 4 | low);
  writeLength(block, literals.length);
  block.push(...literals);
  if (match === undefined) return;
  block.push(match.distance & 0xff, match.distance >> 8);
  writeLength(block, length);
}

function writeLength(block: number[], length: number): void {
  if (length < TOKEN_LIMIT) return;
  let rest = length - TOKEN_LIMIT;
  for (; rest >= 255; rest -= 255) block.push(255);
  block.push(rest);
}
