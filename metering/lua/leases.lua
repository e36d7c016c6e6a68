-- Counts the running calls of one workspace by leases that lapse when nobody renews them.
--
-- KEYS[1]  a sorted set: lease id, scored with the microsecond at which it lapses
-- ARGV[1]  "acquire", "renew" or "release"
-- ARGV[2]  microseconds since the epoch that count as now; 0 for the server's clock, as production says
-- ARGV[3]  how long a lease lasts, milliseconds
-- ARGV[4]  the longest that any lease lasts, milliseconds
-- ARGV[5]  how many leases may be held at once (acquire only)
-- ARGV[6…] lease ids
--
-- Answer: a list of one number, how many leases are held after it; 0 where acquire found no place.

local action, now = ARGV[1], tonumber(ARGV[2])
local ttl_ms, longest_ms, limit = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- What has lapsed goes; so does what ends later than any lease can: the clock has stepped back since it was written.
-- A call that does run comes back with its next renewal.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%d', now))
redis.call('ZREMRANGEBYSCORE', KEYS[1], string.format('(%d', now + longest_ms * 1000), '+inf')

if action == 'acquire' then
  if not redis.call('ZSCORE', KEYS[1], ARGV[6]) and redis.call('ZCARD', KEYS[1]) >= limit then
    return {0}
  end
end
if action == 'release' then
  for i = 6, #ARGV do
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
  return {redis.call('ZCARD', KEYS[1])}
end

local lapses_at = string.format('%d', now + ttl_ms * 1000)
for i = 6, #ARGV do
  redis.call('ZADD', KEYS[1], lapses_at, ARGV[i])
end
if redis.call('PTTL', KEYS[1]) < ttl_ms + 1000 then
  redis.call('PEXPIRE', KEYS[1], string.format('%d', ttl_ms + 1000))
end
return {redis.call('ZCARD', KEYS[1])}
