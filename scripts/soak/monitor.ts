/**
 * Checks that two sections never overlap, without knowing about locks: each
 * process reports the start and the end of its sections on a connection of its
 * own.
 */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * The script for the start of a section. Returns the sections that overlap
 * with it. A holder whose connection ended does not count: a channel to which
 * it is subscribed shows that. Fencing tokens must increase. A lease that was
 * adopted has the token of its first holder, and no writer may have got a token
 * since.
 */
const ENTER = `
local inside, last = KEYS[1], KEYS[2]
local me, name, kind, lives, token, adopted = unpack(ARGV)
local function alive(channel)
  return redis.call('PUBSUB', 'NUMSUB', channel)[2] > 0
end
if not alive(lives) then return { 'gone' } end
local answer = { 'in' }
local all = redis.call('HGETALL', inside)
for i = 1, #all, 2 do
  local other, itsKind, itsLives = string.match(all[i + 1], '(%S+) (%S) (%S+)')
  if not alive(itsLives) then
    redis.call('HDEL', inside, all[i])
  elseif kind == 'x' or itsKind == 'x' then
    answer[#answer + 1] = 'overlap ' .. other .. ' ' .. itsKind .. ' ' ..
      name .. ' ' .. kind
  end
end
redis.call('HSET', inside, me, name .. ' ' .. kind .. ' ' .. lives)
if token ~= '' then
  local number = tonumber(token)
  local any, writer = unpack(redis.call('HMGET', last, 'any', 'writer'))
  any, writer = tonumber(any or 0), tonumber(writer or 0)
  local least = kind == 'x' and any or writer
  if number < least or number == least and adopted ~= 'adopted' then
    answer[#answer + 1] = 'token ' .. token .. ' of ' .. kind .. ' after ' ..
      string.format('%.0f %.0f', any, writer)
  end
  if number > any then redis.call('HSET', last, 'any', token) end
  if kind == 'x' then redis.call('HSET', last, 'writer', token) end
end
return answer
`;

/** The script for the end of a section. Returns whether the lock was valid. */
const LEAVE = `
local there = redis.call('HDEL', KEYS[1], ARGV[1])
if redis.call('PUBSUB', 'NUMSUB', ARGV[2])[2] == 0 then return 'gone' end
return there == 1 and 'out' or 'absent'
`;

/** The scripts that the processes run. */
export const witness = { enter: ENTER, leave: LEAVE };

/** The clocks of processes may differ by this. */
const TOLERANCE_MS = 0.02;

interface Section {
  exclusive: boolean;
  process: string;
  from: number;
  to: number;
}

/** Two processes whose sections overlap. */
export interface Overlap {
  processes: [string, string];
  text: string;
}

/**
 * Compares the sections by the clocks of the processes. Each line of the files
 * in the folder is `LOCK x|s PROCESS FROM TO`.
 */
export function compareSections(
  folder: string,
): { sections: number; overlaps: Overlap[] } {
  const locks = new Map<string, Section[]>();
  let sections = 0;
  for (const file of readdirSync(folder)) {
    const lines = readFileSync(join(folder, file), "utf8").split("\n");
    // A process that was killed may have left half a line.
    for (const line of lines.slice(0, -1)) {
      const [lock = "", type, process = "", from, to] = line.split(" ");
      const own = locks.get(lock) ?? [];
      const times = { from: Number(from), to: Number(to) };
      own.push({ exclusive: type !== "s", process, ...times });
      locks.set(lock, own);
      sections++;
    }
  }
  return { sections, overlaps: [...locks.values()].flatMap(overlapsOf) };
}

function overlapsOf(all: Section[]): Overlap[] {
  const found: Overlap[] = [];
  let inside: Section[] = [];
  const type = ({ exclusive }: Section) => exclusive ? "x" : "s";
  for (const one of all.sort((a, b) => a.from - b.from)) {
    inside = inside.filter(({ to }) => to - TOLERANCE_MS > one.from);
    for (const other of inside) {
      if (!one.exclusive && !other.exclusive) continue;
      found.push({
        processes: [other.process, one.process],
        text: `${other.process} ${type(other)} ${one.process} ${type(one)}`,
      });
    }
    inside.push(one);
  }
  return found;
}
