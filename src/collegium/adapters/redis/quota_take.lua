-- A bucket that fills at a rate. ARGV: key, now in microseconds, amount, units a second, burst, whether it is taken
-- whatever there is. Returns the seconds until it is worth trying again, as text; 0: it was taken.
local key, now = ARGV[1], tonumber(ARGV[2])
local amount, rate, burst = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local found = redis.call('HMGET', key, 'level', 'at')
local level, at = tonumber(found[1] or burst), tonumber(found[2] or now)
-- Clocks of hosts differ a little: time never goes back for a bucket.
if now > at then
  level = level + (now - at) / 1000000 * rate
  at = now
end
level = math.min(burst, level)
local needed = math.min(amount, burst)
-- Times have microseconds: what is missing by rounding alone is not missing.
if ARGV[6] == '0' and level < needed - rate * 1e-6 - burst * 1e-9 then
  return string.format('%.6f', math.ceil((needed - level) / rate * 1000000) / 1000000)
end
level = math.min(burst, level - amount)
redis.call('HSET', key, 'level', string.format('%.17g', level), 'at', string.format('%.0f', at))
redis.call('EXPIRE', key, math.min(math.ceil((burst - level) / rate) + 60, 2592000))
return '0'
