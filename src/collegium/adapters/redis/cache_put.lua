-- Keeps a value. ARGV: prefix, now in microseconds, key, value, time to live in milliseconds, cap on all values.
-- What was put longest ago makes room. The sizes are counted here: Redis may have dropped values meanwhile, which then
-- count until their turn comes.
local call = redis.call
local P, key, value, ttl_ms, cap = ARGV[1], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local order, sizes = P .. 'order', P .. 'sizes'

local function drop(name)
  local size = tonumber(call('HGET', sizes, name) or '0')
  call('DEL', P .. 'c:' .. name)
  call('ZREM', order, name)
  call('HDEL', sizes, name)
  if size > 0 then call('HINCRBY', sizes, '', -size) end
end

-- The first write may be refused where memory is short; after a removal no write would be.
if ttl_ms > 0 and #value <= cap then call('HINCRBY', sizes, '', 0) end
drop(key)
if ttl_ms <= 0 or #value > cap then return 0 end
while tonumber(call('HGET', sizes, '') or '0') + #value > cap do
  local first = call('ZRANGE', order, 0, 0)[1]
  if not first then
    call('DEL', sizes)
    break
  end
  drop(first)
end
local name = P .. 'c:' .. key
call('HSET', name, 'v', value, 'until', string.format('%.0f', tonumber(ARGV[2]) + ttl_ms * 1000))
call('PEXPIRE', name, ttl_ms)
local last = call('ZRANGE', order, -1, -1, 'WITHSCORES')
call('ZADD', order, tonumber(last[2] or '0') + 1, key)
call('HSET', sizes, key, #value)
call('HINCRBY', sizes, '', #value)
call('EXPIRE', order, 30 * 86400)
call('EXPIRE', sizes, 30 * 86400)
return 1
