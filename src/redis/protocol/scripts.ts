/** The scripts that the server runs. docs/redis-protocol.md explains them. */

import { nodeCrypto } from "../../core/crypto.ts";

/** A script, and the digest by which the server caches it. */
export interface Script {
  readonly text: string;
  readonly sha: string;
}

function script(text: string): Script {
  let sha: string | undefined;
  return {
    text,
    get sha() {
      return sha ??= nodeCrypto().createHash("sha1").update(text).digest("hex");
    },
  };
}

/** What {@linkcode LOCK_SCRIPT} does besides granting the lock to waiters. */
export type Operation = "attempt" | "wait" | "check" | "verify" | "release";

/**
 * One atomic step of a lock.
 *
 * `KEYS` are its hash of holders and its queue. `ARGV` are the operation, the
 * member, the prefix of the channels of connections, `"S"` if these are
 * sharded, the channel that Python's clients share, and the number of Python
 * clients that may be subscribed when a reader is granted the lock.
 *
 * Returns the fencing token if the member holds the lock, otherwise the number
 * of Python clients, followed by the holders.
 */
export const LOCK_SCRIPT: Script = script(`
local holders, queue = KEYS[1], KEYS[2]
local operation, self, prefix, sharded, channel, expectedPeers = unpack(ARGV)
local publish = sharded .. 'PUBLISH'
local numsub = sharded == '' and 'NUMSUB' or 'SHARDNUMSUB'

local peers
local function pythonClients()
  if peers == nil then
    peers = 0
    if channel ~= '' then
      local counts = redis.call('PUBSUB', numsub, channel, holders)
      peers = counts[2] - counts[4]
    end
  end
  return peers
end

local function tokenAbove(largest)
  local time = redis.call('TIME')
  local token = math.max(time[1] * 1000000 + time[2], largest + 1)
  return string.format('%.0f', token)
end

-- Fast path. The steps below have the same result if no other member holds
-- the lock or waits for it, but take longer.
if operation == 'release' then
  if redis.call('EXISTS', queue) == 0 then
    redis.call('HDEL', holders, self)
    return false
  end
elseif operation ~= 'verify' and
  redis.call('EXISTS', holders, queue) == 0 and pythonClients() == 0 then
  local token = tokenAbove(0)
  redis.call('HSET', holders, self, token)
  return token
end

local function connectionChannel(member)
  return prefix .. string.match(member, '^%w+:(%x+):')
end

-- Calls remove for each member whose connection has ended. The members are
-- checked in chunks because unpack() has a limit.
local function removeDead(members, remove)
  for first = 1, #members, 1000 do
    local last = math.min(first + 999, #members)
    local channels = {}
    for i = first, last do
      channels[#channels + 1] = connectionChannel(members[i])
    end
    local counts = redis.call('PUBSUB', numsub, unpack(channels))
    for i = first, last do
      if counts[2 * (i - first) + 2] == 0 then remove(members[i]) end
    end
  end
end

-- The holders with their tokens, and the largest token among them.
local held, count, exclusive, largest = {}, 0, 0, 0
local function addHolder(member, token)
  held[member] = token
  count = count + 1
  if string.sub(member, 1, 1) == 'x' then exclusive = exclusive + 1 end
  largest = math.max(largest, tonumber(token))
end
local function removeHolder(member)
  redis.call('HDEL', holders, member)
  held[member] = nil
  count = count - 1
  if string.sub(member, 1, 1) == 'x' then exclusive = exclusive - 1 end
end

local function canEnter(member)
  local lockType = string.match(member, '^%w+')
  if lockType == 'x' then return count == 0 and pythonClients() == 0 end
  if lockType ~= 's' then return count < tonumber(lockType) end
  return exclusive == 0 and (pythonClients() == 0 or
    member == self and expectedPeers ~= '' and
    pythonClients() == tonumber(expectedPeers))
end

local function grant(member)
  local token = tokenAbove(largest)
  redis.call('HSET', holders, member, token)
  addHolder(member, token)
  if member ~= self then
    local number = string.match(member, '^%w+:%x+:(%d+)')
    local message = 'granted ' .. number .. ' ' .. token
    redis.call(publish, connectionChannel(member), message)
  end
end

local records = redis.call('HGETALL', holders)
local others = {}
for i = 1, #records, 2 do
  addHolder(records[i], records[i + 1])
  if records[i] ~= self then others[#others + 1] = records[i] end
end
local released = operation == 'release'
if released then
  if held[self] then
    removeHolder(self)
  else
    redis.call('LREM', queue, -1, self)
  end
end
removeDead(others, removeHolder)

local first = redis.call('LINDEX', queue, 0)
while first do
  local dead = false
  if first ~= self then removeDead({ first }, function() dead = true end) end
  if not dead and not canEnter(first) then break end
  redis.call('LPOP', queue)
  if not dead then grant(first) end
  first = redis.call('LINDEX', queue, 0)
end
if released then return false end

if not held[self] and operation ~= 'verify' then
  if not first and canEnter(self) then
    grant(self)
  elseif operation == 'wait' or
    operation == 'check' and not redis.call('LPOS', queue, self) then
    redis.call('RPUSH', queue, self)
  end
end
if held[self] then return held[self] end
local reply = { pythonClients() }
for member in pairs(held) do reply[#reply + 1] = member end
return reply
`);

/**
 * Asks all subscribers of a channel how they take part in a lock.
 *
 * `KEYS` is the lock's hash of holders; `ARGV` are the channel and the message.
 * Returns the number of Python clients that received the message.
 */
export const PING_SCRIPT: Script = script(`
local counts = redis.call('PUBSUB', 'NUMSUB', ARGV[1], KEYS[1])
redis.call('PUBLISH', ARGV[1], ARGV[2])
return counts[2] - counts[4]
`);

/**
 * Lists the holders of a lock and its waiters. Changes nothing.
 *
 * `KEYS` are the lock's hash of holders, its queue and its hash of infos. `ARGV`
 * are the prefix of the channels of connections, `"S"` if these are sharded,
 * the channel that Python's clients share, the largest number of holders to
 * return, and that of waiters.
 *
 * Returns the number of Python clients; each holder with its fencing token and
 * its info, if any; and each waiter with its info. A member whose connection
 * has ended does not count.
 */
export const PARTICIPANTS_SCRIPT: Script = script(`
local holders, queue, infos = unpack(KEYS)
local prefix, sharded, channel, maxHolders, maxWaiters = unpack(ARGV)
local numsub = sharded == '' and 'NUMSUB' or 'SHARDNUMSUB'

local peers = 0
if channel ~= '' then
  local counts = redis.call('PUBSUB', numsub, channel, holders)
  peers = counts[2] - counts[4]
end

-- A scan may return a member twice.
local held, tokens, cursor = {}, {}, '0'
repeat
  local found = redis.call('HSCAN', holders, cursor, 'COUNT', 1000)
  cursor = found[1]
  for i = 1, #found[2], 2 do
    local member = found[2][i]
    if not tokens[member] then held[#held + 1] = member end
    tokens[member] = found[2][i + 1]
  end
until cursor == '0' or #held >= tonumber(maxHolders)

local waiting = {}
if maxWaiters ~= '0' then
  waiting = redis.call('LRANGE', queue, 0, maxWaiters - 1)
end

-- Returns lists of the members whose connections live, with their infos. The
-- members are checked in chunks because unpack() has a limit.
local function describe(members)
  local result = {}
  for first = 1, #members, 1000 do
    local last = math.min(first + 999, #members)
    local channels, chunk = {}, {}
    for i = first, last do
      local connection = string.match(members[i], '^%w+:(%x+):') or ''
      channels[#channels + 1] = prefix .. connection
      chunk[#chunk + 1] = members[i]
    end
    local counts = redis.call('PUBSUB', numsub, unpack(channels))
    local texts = redis.call('HMGET', infos, unpack(chunk))
    for i, member in ipairs(chunk) do
      if counts[2 * i] > 0 then
        local info, token = texts[i] or '', tokens[member] or ''
        result[#result + 1] = { member, info, token }
      end
    end
  end
  return result
end

return { peers, describe(held), describe(waiting) }
`);
