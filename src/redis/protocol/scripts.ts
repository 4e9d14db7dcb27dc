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

/** Returns the command that runs a script. */
export function commandOf(
  { sha }: Script,
  keys: readonly string[],
  args: readonly string[],
): string[] {
  return ["EVALSHA", sha, String(keys.length), ...keys, ...args];
}

/**
 * What {@linkcode LOCK_SCRIPT} does besides granting the lock to waiters:
 * `attempt` acquires or is refused, `wait` acquires or is queued, `check` is
 * the look of a waiter, `ahead` a look that returns all members ahead, and
 * `release` ends an acquisition.
 */
export type Operation = "attempt" | "wait" | "check" | "ahead" | "release";

/** The prefix of the channels of connections, as `replyChannelPrefix` has it. */
const CHANNEL_PREFIX = "(sharded ~= '' and holders .. ':' or " +
  "string.sub(clock, 1, -6) .. 'session:')";

/**
 * One atomic step of a lock. It costs the same no matter how many members hold
 * the lock or wait for it, with two exceptions: the first waiter checks the
 * holders, and about one in 64 grants beside other holders does so. The other
 * waiters check the member ahead, and remove it if it is dead.
 *
 * `KEYS` are its hash of holders, its queue, the clock and the hash of what
 * members say about themselves. `ARGV` are the operation, the member and the
 * channel that Python's clients share. The rest may be missing: the flags, the
 * number of Python clients that may be subscribed when a reader is granted the
 * lock, and what the member says about itself (also for `release`, which
 * otherwise leaves it).
 *
 * Of the flags, `S` says that the channels of connections are sharded, and `P`
 * that subscriptions have a connection of their own. That one may have ended
 * while the step was under way on the other one. Every step would then count
 * the member as dead, so it is not added.
 *
 * `release` returns 1 if the member held the lock. The others return the
 * fencing token if it holds the lock. If not, they return the number of Python
 * clients and the position in the queue, which for `attempt` is the one that
 * the member would have. After these follow the holders if that position is 0,
 * otherwise the member ahead. `ahead` returns the holders and all members ahead.
 */
export const LOCK_SCRIPT: Script = script(`
local holders, queue, clock, infos = unpack(KEYS)
local operation, self, channel, flags, expectedPeers, info = unpack(ARGV)
flags, expectedPeers, info = flags or '', expectedPeers or '', info or ''
local sharded = flags ~= '' and string.match(flags, 'S') or ''
local numsub = sharded == '' and 'NUMSUB' or 'SHARDNUMSUB'
-- A member that is never removed leaves keys that expire after a day.
local EXPIRY = '86400'

-- Fast path. The steps below have the same result if no other member holds
-- the lock or waits for it, but take longer. Lua would create each function
-- that is defined before this on every call.
local left, released = 0, 0
if operation == 'release' then
  local held = redis.call('HDEL', holders, self)
  if info ~= '' then redis.call('HDEL', infos, self) end
  if redis.call('EXISTS', queue) == 0 then return held end
  if held == 0 then left = redis.call('LREM', queue, 1, self) end
  released = held
else
  if flags ~= '' and string.match(flags, 'P') then
    local own = ${CHANNEL_PREFIX} .. string.match(self, '^%w+:(%x+):')
    if redis.call('PUBSUB', numsub, own)[2] == 0 then
      return redis.error_reply('UNSUBSCRIBED the subscriptions have ended')
    end
  end
  local others
  if channel == '' then
    others = redis.call('EXISTS', holders, queue)
  else
    -- This user may not be allowed to read the fence. Then this is an error.
    others = redis.pcall('EXISTS', holders, queue, channel .. '-fence')
    if others == 0 then
      local counts = redis.call('PUBSUB', 'NUMSUB', channel, holders)
      others = counts[2] - counts[4]
    end
  end
  if others == 0 then
    local time = redis.call('TIME')
    -- Converting numbers takes as long as a command.
    local token = time[1] .. string.sub('00000' .. time[2], -6)
    local last = redis.call('SET', clock, token, 'GET')
    if not last or #last < #token or #last == #token and last < token then
      if sharded ~= '' then redis.call('EXPIRE', clock, EXPIRY) end
      if info ~= '' then
        redis.call('HSET', infos, self, info)
        redis.pcall('EXPIRE', infos, EXPIRY)
      end
      redis.call('HSET', holders, self, token)
      redis.pcall('EXPIRE', holders, EXPIRY)
      return token
    end
    redis.call('SET', clock, last)
  end
end

local publish = sharded .. 'PUBLISH'
-- A double represents every integer up to this one.
local MAX_TOKEN = 2 ^ 53

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

local function number(text)
  local value = tonumber(text)
  return value and value < MAX_TOKEN and value or 0
end

-- Returns a token larger than all before it, by this server's clock. Python's
-- clients draw theirs from a counter, which exists if one of them has ever
-- asked for one. This user may not be allowed to read it.
local function nextToken()
  local last, fence
  if channel ~= '' then
    local both = redis.pcall('MGET', clock, channel .. '-fence')
    if both.err then last = redis.call('GET', clock)
    else last, fence = both[1], both[2] end
  else
    last = redis.call('GET', clock)
  end
  local time = redis.call('TIME')
  local token = math.max(
    time[1] * 1000000 + time[2], number(last) + 1, number(fence) + 1
  )
  local text = string.format('%.0f', token)
  if sharded == '' then redis.call('SET', clock, text)
  else redis.call('SET', clock, text, 'EX', EXPIRY) end
  if number(fence) > 0 then
    redis.pcall('SET', channel .. '-fence', text, 'KEEPTTL')
  end
  return text
end

-- Errors do not matter: the step has taken effect already.
local function expire(key)
  redis.pcall('EXPIRE', key, EXPIRY)
end

local function describe(member)
  if member == self and info ~= '' then
    redis.call('HSET', infos, self, info)
    expire(infos)
  end
end

local function hold(member, token)
  describe(member)
  redis.call('HSET', holders, member, token)
  expire(holders)
end

local prefix = ${CHANNEL_PREFIX}
local function connectionChannel(member)
  return prefix .. string.match(member, '^%w+:(%x+):')
end

-- Returns those of the members whose connections have ended. They are checked
-- in chunks because unpack() has a limit.
local function deadOf(members)
  local dead = {}
  for first = 1, #members, 1000 do
    local last = math.min(first + 999, #members)
    local channels = {}
    for i = first, last do
      channels[#channels + 1] = connectionChannel(members[i])
    end
    local counts = redis.call('PUBSUB', numsub, unpack(channels))
    for i = first, last do
      if counts[2 * (i - first) + 2] == 0 and members[i] ~= self then
        dead[#dead + 1] = members[i]
      end
    end
  end
  return dead
end

local count = redis.call('HLEN', holders)
local function removeDeadHolders()
  for _, member in ipairs(deadOf(redis.call('HKEYS', holders))) do
    redis.call('HDEL', holders, member)
    redis.call('HDEL', infos, member)
    count = count - 1
  end
end

-- An exclusive holder is the only one.
local function isExclusive()
  return count == 1 and
    string.sub(redis.call('HKEYS', holders)[1], 1, 1) == 'x'
end

local function canEnter(member)
  local lockType = string.match(member, '^%w+')
  if lockType == 'x' then return count == 0 and pythonClients() == 0 end
  if lockType ~= 's' then return count < tonumber(lockType) end
  return (pythonClients() == 0 or
    member == self and expectedPeers ~= '' and
    pythonClients() == tonumber(expectedPeers)) and not isExclusive()
end

local function send(member, verb, token)
  local message = verb .. ' ' .. string.match(member, '^%w+:%x+:(%d+)') .. token
  redis.pcall(publish, connectionChannel(member), message)
end

local function grant(member)
  local token = nextToken()
  -- No waiter may ever check the holders that this one joins.
  if count > 0 and tonumber(token) % 64 == 0 then removeDeadHolders() end
  hold(member, token)
  count = count + 1
  if member ~= self then send(member, 'granted', ' ' .. token) end
end

-- Grants the lock to the first waiters, and returns the first that remains.
local function advance()
  local first = redis.call('LINDEX', queue, 0)
  while first do
    local dead = #deadOf({ first }) > 0
    if not dead and not canEnter(first) then break end
    redis.call('LPOP', queue)
    left = left + 1
    if dead then redis.call('HDEL', infos, first) else grant(first) end
    first = redis.call('LINDEX', queue, 0)
  end
  return first
end

-- Notifies each member that is now among the first four, and was not before.
local function announce()
  for position = math.max(0, 4 - left), 3 do
    local member = redis.call('LINDEX', queue, position)
    if not member then break end
    if member ~= self then send(member, 'look', '') end
  end
end

local first = advance()
if operation == 'release' then
  announce()
  return released
end

local token = redis.call('HGET', holders, self)
local position = not token and operation ~= 'wait' and
  operation ~= 'attempt' and redis.call('LPOS', queue, self)
if not token and (not first or first == self) then
  if not canEnter(self) then removeDeadHolders() end
  if canEnter(self) then
    if first then advance() else grant(self) end
    token = redis.call('HGET', holders, self)
  end
end
if token then
  announce()
  return token
end

-- Removes the dead members directly ahead. A waiter asks the member ahead, and
-- would learn that it is dead, and look, again and again while it stays.
local function removeDeadAhead()
  for _ = 1, math.min(position, 16) do
    local ahead = redis.call('LINDEX', queue, position - 1)
    if #deadOf({ ahead }) == 0 then return end
    redis.call('LREM', queue, 1, ahead)
    redis.call('HDEL', infos, ahead)
    position = position - 1
    left = left + 1
  end
end

local queued = position
if queued then removeDeadAhead() else position = redis.call('LLEN', queue) end
local reply = { pythonClients(), position }
local function append(members)
  for _, member in ipairs(members) do reply[#reply + 1] = member end
end
if position == 0 or operation == 'ahead' then
  append(redis.call('HKEYS', holders))
end
if position > 0 then
  local from = operation == 'ahead' and 0 or position - 1
  append(redis.call('LRANGE', queue, from, position - 1))
end
announce()
if operation ~= 'attempt' then
  -- Nothing after this can fail.
  if not queued then
    describe(self)
    redis.call('RPUSH', queue, self)
  end
  expire(queue)
  expire(holders)
  expire(infos)
end
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

-- Returns the members whose connections live, each with its info and its
-- token. They are checked in chunks because unpack() has a limit.
local function describe(members, limit)
  local result = {}
  for first = 1, math.min(#members, limit), 1000 do
    local last = math.min(first + 999, #members, limit)
    local channels = {}
    for i = first, last do
      local connection = string.match(members[i], '^%w+:(%x+):') or ''
      channels[#channels + 1] = prefix .. connection
    end
    local counts = redis.call('PUBSUB', numsub, unpack(channels))
    for i = first, last do
      if counts[2 * (i - first) + 2] > 0 then
        local member = members[i]
        local info = redis.call('HGET', infos, member) or ''
        local token = redis.call('HGET', holders, member) or ''
        result[#result + 1] = { member, info, token }
      end
    end
  end
  return result
end

local held, waiting = redis.call('HKEYS', holders), {}
if maxWaiters ~= '0' then
  waiting = redis.call('LRANGE', queue, 0, maxWaiters - 1)
end
return {
  peers,
  describe(held, tonumber(maxHolders)),
  describe(waiting, tonumber(maxWaiters))
}
`);

/**
 * Passes a lock that is held from one member to another, with its fencing
 * token.
 *
 * `KEYS` are the lock's hash of holders and its hash of infos. `ARGV` are the
 * member that holds the lock, its token, the member that adopts it, the prefix
 * of the channels of connections, `"S"` if these are sharded, and what the new
 * member says about itself.
 *
 * Returns the token, or nothing if the first member does not hold the lock with
 * this token or its connection has ended. Fails if the connection of the new
 * member has ended.
 */
export const ADOPT_SCRIPT: Script = script(`
local holders, infos = unpack(KEYS)
local from, token, self, prefix, sharded, info = unpack(ARGV)
if redis.call('HGET', holders, from) ~= token then return false end

local connection, number = string.match(from, '^%w+:(%x+):(%d+)')
local channel = prefix .. connection
local own = prefix .. string.match(self, '^%w+:(%x+):')
local numsub = sharded == '' and 'NUMSUB' or 'SHARDNUMSUB'
local counts = redis.call('PUBSUB', numsub, channel, own)
if counts[2] == 0 then return false end
-- Messages may have a connection of their own, which may end earlier.
if counts[4] == 0 then
  return redis.error_reply('UNSUBSCRIBED the subscriptions have ended')
end

-- If the server is out of memory, it refuses the first write, not a later one.
redis.call('HSET', holders, self, token)
redis.call('HDEL', holders, from)
redis.call('HDEL', infos, from)
if info ~= '' then
  redis.pcall('HSET', infos, self, info)
  redis.pcall('EXPIRE', infos, 86400)
end
redis.pcall(sharded .. 'PUBLISH', channel, 'adopted ' .. number)
return token
`);
