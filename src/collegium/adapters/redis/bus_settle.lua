-- Settles a claim. ARGV: ..., topic, group, member, token, tenant, id, how (done, back, dead), when or why.
-- Returns the number of the news and when the message comes back; or nothing where the claim is stale.
local topic, group, member, token, tenant, id = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local deliveries, lapses, held = deliveries_of(topic, group, member)
if held ~= token or token == '' then return {} end
take_out(topic, group, tenant, member)
if ARGV[10] == 'done' then
  release(topic, group, tenant, member, id)
  return {}
end
local value = value_of(topic, member)
if not value then
  call('HDEL', of('e', topic, group), member)
  return {}
end
if ARGV[10] == 'dead' then
  bury(topic, group, member, value, ARGV[11])
  return {}
end
call('HSET', of('e', topic, group), member, deliveries .. ':' .. lapses .. ':')
local due = tonumber(ARGV[11])
if due <= now then
  enqueue(topic, group, tenant, head_of(value).rank, member)
  local number = tell(topic)
  keep_seq()
  return {topic, number, '0'}
end
call('ZADD', of('d', topic, group), due, member)
limit_life(topic, of('d', topic, group))
return {topic, tell(topic, due), fmt(due)}
