-- A value. ARGV: prefix, now in microseconds, key. Returns it, or nothing where it is too old.
local found = redis.call('HMGET', ARGV[1] .. 'c:' .. ARGV[3], 'v', 'until')
if found[1] and tonumber(found[2]) > tonumber(ARGV[2]) then return found[1] end
return false
