-- Shares between processes whether calls may go to a provider; the steps of gateway/rules/circuit.py.
--
-- KEYS[…]  a hash for each provider, all in one slot: w window's begin, g good, b bad, u open until (absent: closed),
--          n openings, t trial until; all times in milliseconds
-- ARGV[1]  "report", "admit" or "look"
-- ARGV[2]  milliseconds since the epoch that count as now; 0 for the server's clock, as production says
-- report:  ARGV[3] good, ARGV[4] bad, ARGV[5] 1 where it is a trial's end, ARGV[6] failures that open it (0: never),
--          ARGV[7] the first cooldown, ARGV[8] the longest, ARGV[9] the window
-- admit:   ARGV[3] how long a trial may take
--
-- Answer: report and look, for each key how many milliseconds it stays open (0: trials may begin), -1 where it is
-- closed; admit: 0 closed, 1 a trial, 2 open, and then how long it stays so.

local action, now = ARGV[1], tonumber(ARGV[2])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
local MEMORY_MS = 600000

local function remaining(key)
  local open_until = tonumber(redis.call('HGET', key, 'u') or '0')
  if open_until == 0 then
    return -1
  end
  return math.max(0, open_until - now)
end

local function open(key, cooldown, longest)
  local openings = redis.call('HINCRBY', key, 'n', 1)
  local lasts = math.min(cooldown * 2 ^ math.min(openings - 1, 10), longest)
  redis.call('HSET', key, 'u', string.format('%d', now + lasts))
  redis.call('HDEL', key, 'w', 'g', 'b', 't')
  redis.call('PEXPIRE', key, string.format('%d', lasts + MEMORY_MS))
end

if action == 'look' then
  local found = {}
  for i = 1, #KEYS do
    found[i] = remaining(KEYS[i])
  end
  return found
end

local key = KEYS[1]
if action == 'admit' then
  local left = remaining(key)
  if left == -1 then
    return {0, 0}
  end
  local trial_until = tonumber(redis.call('HGET', key, 't') or '0')
  if left > 0 or now < trial_until then
    return {2, math.max(left, trial_until - now)}
  end
  redis.call('HSET', key, 't', string.format('%d', now + tonumber(ARGV[3])))
  return {1, 0}
end

local good, bad, trial = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5] == '1'
local failures, cooldown, longest, window = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
if remaining(key) >= 0 then
  if trial and bad > 0 then
    open(key, cooldown, longest)
  elseif trial and good > 0 then
    redis.call('DEL', key)
  end
  return {remaining(key)}
end
local begun = tonumber(redis.call('HGET', key, 'w') or '0')
if now < begun or now - begun >= window then
  redis.call('HSET', key, 'w', string.format('%d', now), 'g', 0, 'b', 0)
end
local goods = redis.call('HINCRBY', key, 'g', good)
local bads = redis.call('HINCRBY', key, 'b', bad)
redis.call('PEXPIRE', key, string.format('%d', window))
if failures > 0 and bads >= failures and bads >= goods then
  open(key, cooldown, longest)
end
return {remaining(key)}
