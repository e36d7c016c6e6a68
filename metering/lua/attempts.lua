-- Tells which earlier attempt at the same request a client's retry repeats.
--
-- KEYS[1]  a hash of one request: attempt (32 hex digits) -> "COUNT STATE LAPSES_AT_MS"
--          COUNT: the retry's number of its last asker; STATE: 1 running, 2 answered, 3 failed
-- ARGV[1]  "begin", "instead" or "end"
-- ARGV[2]  milliseconds since the epoch that count as now; 0 for the server's clock, as production says
-- ARGV[3]  how long what is written stays, milliseconds
-- ARGV[4]  the attempt
-- ARGV[5]  begin, instead: the retry's number, 0 for a first attempt; end: the state
-- ARGV[6]  begin: how many attempts are kept; instead: the attempt that it replaces
--
-- Answer: {0}, or for "begin" the attempt that is repeated: {1, four numbers of 32 bits}.

local action, now, ttl_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function write(attempt, count, state)
  redis.call('HSET', KEYS[1], attempt, string.format('%d %d %d', count, state, now + ttl_ms))
  if redis.call('PTTL', KEYS[1]) < ttl_ms then
    redis.call('PEXPIRE', KEYS[1], string.format('%d', ttl_ms))
  end
end

local function read(attempt)
  local value = redis.call('HGET', KEYS[1], attempt)
  if not value then
    return nil
  end
  local count, state, lapses_at = string.match(value, '^(%d+) (%d+) (%d+)$')
  return {attempt = attempt, count = tonumber(count), state = tonumber(state), lapses_at = tonumber(lapses_at)}
end

if action == 'end' then
  local known = read(ARGV[4])
  if known then
    write(ARGV[4], known.count, tonumber(ARGV[5]))
  end
  return {0}
end
if action == 'instead' then
  redis.call('HDEL', KEYS[1], ARGV[6])
  write(ARGV[4], tonumber(ARGV[5]), 1)
  return {0}
end

local retry, most = tonumber(ARGV[5]), tonumber(ARGV[6])
local kept, best = 0, nil

-- A failed attempt is what clients retry; then one that runs still, whose client may have lost patience; then one that
-- was answered, whose answer may have been lost. Among equals the one whose last asker came just before, then the oldest
-- of those that run and the newest of those answered.
local function better(one, other)
  if one.state ~= other.state then
    local order = {[3] = 1, [1] = 2, [2] = 3}
    return order[one.state] < order[other.state]
  end
  if one.count ~= other.count then
    return one.count > other.count
  end
  if one.state == 2 then
    return one.attempt > other.attempt
  end
  return one.attempt < other.attempt
end

for _, attempt in ipairs(redis.call('HKEYS', KEYS[1])) do
  local one = read(attempt)
  if one.lapses_at <= now then
    redis.call('HDEL', KEYS[1], attempt)
  else
    kept = kept + 1
    if one.count < retry and (not best or better(one, best)) then
      best = one
    end
  end
end

if best and best.state == 3 then
  redis.call('HDEL', KEYS[1], best.attempt)
  kept = kept - 1
  best = nil
end
if best then
  write(best.attempt, retry, best.state)
  local parts = {1}
  for i = 1, 25, 8 do
    parts[#parts + 1] = tonumber(string.sub(best.attempt, i, i + 7), 16)
  end
  return parts
end
if kept < most then
  write(ARGV[4], retry, 1)
end
return {0}
