-- Counts what nobody holds. ARGV: ..., topics.
local count = 0
for n = 4, #ARGV do
  local topic = ARGV[n]
  local many = groups(topic)
  for _, group in ipairs(many) do show(topic, group) end
  expire(topic)
  if #many == 0 then
    count = count + call('HLEN', P .. 'i:' .. topic)
  elseif #many == 1 then
    count = count + waiting_for(topic, many[1]) - call('ZCARD', of('h', topic, many[1]))
  else
    local seen = {}
    local function add(members)
      for _, member in ipairs(members) do
        if not seen[member] then
          seen[member] = true
          count = count + 1
        end
      end
    end
    for _, group in ipairs(many) do
      add(call('ZRANGE', of('d', topic, group), 0, -1))
      for _, tenant in ipairs(call('ZRANGE', of('t', topic, group), 0, -1)) do
        add(call('ZRANGE', queue_of(topic, group, tenant), 0, -1))
      end
    end
  end
end
keep_seq()
return count
