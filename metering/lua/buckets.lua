-- Decides over a list of token buckets of one slot: all of them give their tokens, or none does.
--
-- KEYS     one per bucket
-- ARGV[1]  "take", "peek" (take nothing) or "refund" (the costs are given back)
-- ARGV[2]  microseconds since the epoch that count as now; 0 for the server's clock, as production says
-- then per bucket: capacity (tokens), refill (tokens per hour), cost (tokens), least life of the key (milliseconds)
--
-- A key holds four doubles of 8 bytes, little end first (text costs a quarter more time): the instant of its last
-- writing, what was missing from a full bucket then in parts of 1/3600000000 token, and the capacity and refill of then.
-- Refilling R tokens an hour gives back exactly R parts a microsecond, so every step is whole-numbered and nothing is
-- ever rounded. A missing key is a full bucket. All numbers stay below 2^53, where doubles are exact
-- (metering/rules/bucket.py has the bounds, and is the oracle that this file is tested against).
--
-- Answer: allowed (0 or 1), the index from 0 of the bucket that refuses longest (-1: none), then per bucket: whole
-- tokens left, microseconds until full, microseconds until it can give the cost (0: now, -1: never).

local PARTS = 3600000000
local LAYOUT, LENGTH = '<dddd', 32

local call, floor, ceil, max, min, tonumber = redis.call, math.floor, math.ceil, math.max, math.min, tonumber
local keys, argv = KEYS, ARGV
local mode, now = argv[1], tonumber(argv[2])
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end

local written = call('MGET', unpack(keys))
local reply = {1, -1}
local longest = 0
local at_argument = 3
for i = 1, #keys do
  local capacity, refill = tonumber(argv[at_argument]), tonumber(argv[at_argument + 1])
  local cost = tonumber(argv[at_argument + 2])
  local used, changed = 0, false
  local stored = written[i]
  if stored and #stored == LENGTH then
    local at, was_used, was_capacity, was_refill = struct.unpack(LAYOUT, stored)
    -- A clock that stepped back refills nothing; from then on it counts from where it stands.
    used = max(0, was_used - max(0, now - at) * was_refill)
    changed = now < at or was_refill ~= refill
    if was_capacity ~= capacity then
      -- A change of plan makes no tokens: those in the bucket stay, cut to the new capacity.
      used = capacity * PARTS - min(was_capacity * PARTS - used, capacity * PARTS)
      changed = true
    end
  end
  local retry_us = 0
  if mode ~= 'refund' then
    if cost > capacity then
      retry_us = -1
    elseif used > (capacity - cost) * PARTS then
      retry_us = ceil((used - (capacity - cost) * PARTS) / refill)
    end
    if retry_us ~= 0 then
      reply[1] = 0
      if longest >= 0 and (retry_us < 0 or retry_us > longest) then
        reply[2], longest = i - 1, retry_us
      end
    end
  end
  -- Until the second pass, the places of the answer keep what it needs.
  local answer = 3 * i
  reply[answer], reply[answer + 1], reply[answer + 2] = used, changed, retry_us
  at_argument = at_argument + 4
end

local sign = 0
if mode == 'refund' then
  sign = -1
elseif mode == 'take' and reply[1] == 1 then
  sign = 1
end
at_argument = 3
for i = 1, #keys do
  local capacity, refill = tonumber(argv[at_argument]), tonumber(argv[at_argument + 1])
  local answer = 3 * i
  local used = reply[answer]
  local after = max(0, used + sign * min(tonumber(argv[at_argument + 2]), capacity) * PARTS)
  local reset_us = ceil(after / refill)
  -- A new plan is written also when nothing is taken, or the old plan's refill would count on; so is a clock that
  -- stepped back, or nothing would refill until it has caught up.
  if after ~= used or reply[answer + 1] then
    local life_ms = max(ceil(reset_us / 1000) + 1000, tonumber(argv[at_argument + 3]))
    call('SET', keys[i], struct.pack(LAYOUT, now, after, capacity, refill), 'PX', life_ms)
  end
  reply[answer], reply[answer + 1] = floor((capacity * PARTS - after) / PARTS), reset_us
  at_argument = at_argument + 4
end
return reply
