-- Shows what was hidden long enough. ARGV: ..., topics. Returns per topic the number of its last news and when the next
-- message comes back.
local looks = {}
for n = 4, #ARGV do
  local topic, due = ARGV[n], nil
  for _, group in ipairs(groups(topic)) do
    local next_due = show(topic, group)
    if next_due then due = math.min(due or math.huge, next_due) end
  end
  looks[#looks + 1] = {topic, call('GET', P .. 'n:' .. topic) or '0', fmt(due or 0)}
end
keep_seq()
return looks
