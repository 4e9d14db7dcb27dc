/** What the server does in one step. docs/redis-protocol.md explains it. */

import { createHash } from "node:crypto";

/** A script, and the name under which the server remembers it. */
export interface Script {
  readonly text: string;
  readonly sha: string;
}

function script(text: string): Script {
  return { text, sha: createHash("sha1").update(text).digest("hex") };
}

/** What {@linkcode LOCK_SCRIPT} does besides letting in who may enter. */
export type Operation = "attempt" | "wait" | "check" | "verify" | "release";

/**
 * One step of a lock. Takes its hash and its queue as keys, and an operation,
 * an entry, what the channels of sessions begin with, `"S"` where they are
 * sharded, the channel that Python shares, and how many foreigners may be there
 * when a reader enters. Returns the token of the entry once it holds; else how
 * many foreigners there are, and who holds.
 */
export const LOCK_SCRIPT: Script = script(`
local holders, queue = KEYS[1], KEYS[2]
local operation, mine, prefix, sharded, channel, allowed = unpack(ARGV)
local publish = sharded .. 'PUBLISH'
local numsub = sharded == '' and 'NUMSUB' or 'SHARDNUMSUB'

local foreign
local function foreigners()
  if foreign == nil then
    foreign = 0
    if channel ~= '' then
      local counts = redis.call('PUBSUB', numsub, channel, holders)
      foreign = counts[2] - counts[4]
    end
  end
  return foreign
end

local function tokenAbove(largest)
  local time = redis.call('TIME')
  local token = math.max(time[1] * 1000000 + time[2], largest + 1)
  return string.format('%.0f', token)
end

-- What follows comes to the same for whoever is alone, but takes longer.
if operation == 'release' then
  if redis.call('EXISTS', queue) == 0 then
    redis.call('HDEL', holders, mine)
    return false
  end
elseif operation ~= 'verify' and
  redis.call('EXISTS', holders, queue) == 0 and foreigners() == 0 then
  local token = tokenAbove(0)
  redis.call('HSET', holders, mine, token)
  return token
end

local function session(entry)
  return prefix .. string.match(entry, '^%w+:(%x+):')
end

-- Calls back with those whose sessions ended. unpack() has a limit.
local function dead(entries, remove)
  for first = 1, #entries, 1000 do
    local last = math.min(first + 999, #entries)
    local names = {}
    for i = first, last do names[#names + 1] = session(entries[i]) end
    local counts = redis.call('PUBSUB', numsub, unpack(names))
    for i = first, last do
      if counts[2 * (i - first) + 2] == 0 then remove(entries[i]) end
    end
  end
end

-- Who holds, and the largest token that was given.
local held, count, exclusive, largest = {}, 0, 0, 0
local function hold(entry, token)
  held[entry] = token
  count = count + 1
  if string.sub(entry, 1, 1) == 'x' then exclusive = exclusive + 1 end
  largest = math.max(largest, tonumber(token))
end
local function forget(entry)
  redis.call('HDEL', holders, entry)
  held[entry] = nil
  count = count - 1
  if string.sub(entry, 1, 1) == 'x' then exclusive = exclusive - 1 end
end

local function mayEnter(entry)
  local kind = string.match(entry, '^%w+')
  if kind == 'x' then return count == 0 and foreigners() == 0 end
  if kind ~= 's' then return count < tonumber(kind) end
  return exclusive == 0 and (foreigners() == 0 or
    entry == mine and allowed ~= '' and foreigners() == tonumber(allowed))
end

local function grant(entry)
  local token = tokenAbove(largest)
  redis.call('HSET', holders, entry, token)
  hold(entry, token)
  if entry ~= mine then
    local number = string.match(entry, '^%w+:%x+:(%d+)')
    redis.call(publish, session(entry), 'granted ' .. number .. ' ' .. token)
  end
end

local all = redis.call('HGETALL', holders)
local names = {}
for i = 1, #all, 2 do
  hold(all[i], all[i + 1])
  if all[i] ~= mine then names[#names + 1] = all[i] end
end
local released = operation == 'release'
if released then
  if held[mine] then
    forget(mine)
  else
    redis.call('LREM', queue, -1, mine)
  end
end
dead(names, forget)

local first = redis.call('LINDEX', queue, 0)
while first do
  local gone = false
  if first ~= mine then dead({ first }, function() gone = true end) end
  if not gone and not mayEnter(first) then break end
  redis.call('LPOP', queue)
  if not gone then grant(first) end
  first = redis.call('LINDEX', queue, 0)
end
if released then return false end

if not held[mine] and operation ~= 'verify' then
  if not first and mayEnter(mine) then
    grant(mine)
  elseif operation == 'wait' or
    operation == 'check' and not redis.call('LPOS', queue, mine) then
    redis.call('RPUSH', queue, mine)
  end
end
if held[mine] then return held[mine] end
local answer = { foreigners() }
for entry in pairs(held) do answer[#answer + 1] = entry end
return answer
`);

/**
 * Asks all who are subscribed to a channel who they are. Takes the lock's hash
 * as the key, and the channel and the question; returns how many foreigners
 * received it.
 */
export const PING_SCRIPT: Script = script(`
local counts = redis.call('PUBSUB', 'NUMSUB', ARGV[1], KEYS[1])
redis.call('PUBLISH', ARGV[1], ARGV[2])
return counts[2] - counts[4]
`);
