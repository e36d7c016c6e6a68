-- Shares between processes which providers asked to be left alone, and for how long.
--
-- KEYS[1]  a sorted set: provider and its model, with the instant (milliseconds since the epoch) until which it is left alone
-- ARGV[1]  how many are told at most, those that last longest
-- ARGV[…]  pauses to be added, each a member and its milliseconds from now; a longer one that is known stays
--
-- Answer: for each pause in force its member and the milliseconds that are left. All by the server's clock.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local MEMORY_MS = 120000

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', now))
for i = 2, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], 'GT', string.format('%d', now + tonumber(ARGV[i + 1])), ARGV[i])
  redis.call('PEXPIRE', KEYS[1], MEMORY_MS)
end
local found = redis.call('ZREVRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1, 'WITHSCORES')
local told = {}
for i = 1, #found, 2 do
  told[i] = found[i]
  told[i + 1] = tonumber(found[i + 1]) - now
end
return told
