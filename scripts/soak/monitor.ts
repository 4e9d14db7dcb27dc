/**
 * Who tells whether two were inside at a time. It knows nothing of locks: it
 * is told where each section begins and ends, by a connection of its own.
 */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Who begins a section runs it, and is told of all others who are inside and
 * should not be. Whose connection ended is not entitled any more: a channel to
 * which it is subscribed shows that. Tokens have to grow.
 */
const ENTER = `
local inside, last = KEYS[1], KEYS[2]
local me, who, kind, lives, token = unpack(ARGV)
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
      who .. ' ' .. kind
  end
end
redis.call('HSET', inside, me, who .. ' ' .. kind .. ' ' .. lives)
if token ~= '' then
  local number = tonumber(token)
  local any, writer = unpack(redis.call('HMGET', last, 'any', 'writer'))
  any, writer = tonumber(any or 0), tonumber(writer or 0)
  if number <= writer or kind == 'x' and number <= any then
    answer[#answer + 1] = 'token ' .. token .. ' of ' .. kind .. ' after ' ..
      string.format('%.0f %.0f', any, writer)
  end
  if number > any then redis.call('HSET', last, 'any', token) end
  if kind == 'x' then redis.call('HSET', last, 'writer', token) end
end
return answer
`;

/** Who ends a section runs it, and is told whether it was entitled to it. */
const LEAVE = `
local there = redis.call('HDEL', KEYS[1], ARGV[1])
if redis.call('PUBSUB', 'NUMSUB', ARGV[2])[2] == 0 then return 'gone' end
return there == 1 and 'out' or 'absent'
`;

export const witness = { enter: ENTER, leave: LEAVE };

/** What clocks may differ by, in milliseconds. */
const TOLERANCE = 0.02;

/**
 * Compares when all were inside by their own clocks: lines of the files in a
 * folder, `CHANNEL KIND WHO FROM TO`. Returns the overlaps, and how many
 * sections there were.
 */
export function intervals(folder) {
  const channels = new Map();
  let sections = 0;
  for (const file of readdirSync(folder)) {
    const lines = readFileSync(join(folder, file), "utf8").split("\n");
    // Who was killed may have left half a line.
    for (const line of lines.slice(0, -1)) {
      const [channel, kind, who, from, to] = line.split(" ");
      const own = channels.get(channel) ?? [];
      own.push({ kind, who, from: Number(from), to: Number(to) });
      channels.set(channel, own);
      sections++;
    }
  }
  return { sections, overlaps: [...channels.values()].flatMap(overlapsOf) };
}

function overlapsOf(all) {
  const found = [];
  let inside = [];
  for (const one of all.sort((a, b) => a.from - b.from)) {
    inside = inside.filter(({ to }) => to - TOLERANCE > one.from);
    for (const other of inside) {
      if (one.kind === "s" && other.kind === "s") continue;
      found.push(`${other.who} ${other.kind} ${one.who} ${one.kind}`);
    }
    inside.push(one);
  }
  return found;
}
