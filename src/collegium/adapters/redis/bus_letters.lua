-- Dead letters. ARGV: ..., topic, after, limit. Returns member and value of each.
local topic = ARGV[4]
trim_letters(topic)
local found = {}
for _, name in ipairs(call('ZRANGEBYSCORE', P .. 'l:' .. topic, '(' .. ARGV[5], '+inf', 'LIMIT', 0, ARGV[6])) do
  local value = call('HGET', P .. 'b:' .. topic, name)
  if value then
    found[#found + 1] = string.sub(name, 1, 16)
    found[#found + 1] = value
  end
end
return found
