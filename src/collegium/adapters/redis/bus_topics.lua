-- Names of topics that have anything, in no order; the others are forgotten.
local found = {}
for _, topic in ipairs(call('ZRANGE', P .. 'topics', 0, -1)) do
  if call('EXISTS', P .. 'x:' .. topic, P .. 'm:' .. topic, P .. 'g:' .. topic, P .. 'l:' .. topic) > 0 then
    found[#found + 1] = topic
  else
    call('ZREM', P .. 'topics', topic)
  end
end
return found
