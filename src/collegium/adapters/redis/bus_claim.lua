-- Claims messages. ARGV: ..., group, limit, beginning of the tokens, then topics. Returns the claims (topic, member,
-- deliveries, token, value), and per topic the number of its last news and when the next message comes back.
local group, limit, name = ARGV[4], tonumber(ARGV[5]), ARGV[6]
local topics, dues, claims = {}, {}, {}

-- A group that claims for the first time begins with what no group has settled yet.
local function join(topic)
  local others = call('SMEMBERS', P .. 'g:' .. topic)
  known_groups[topic] = others
  for _, other in ipairs(others) do
    if other == group then return end
  end
  call('SADD', P .. 'g:' .. topic, group)
  call('ZADD', P .. 'topics', now, topic)
  known_groups[topic] = nil
  if #others == 0 and is_work(topic) then
    for _, tenant in ipairs(call('ZRANGE', of('t', topic, ''), 0, -1)) do
      local from, to = queue_of(topic, '', tenant), queue_of(topic, group, tenant)
      if call('EXISTS', to) == 0 then call('RENAME', from, to) else call('ZUNIONSTORE', to, 2, to, from) end
      call('DEL', from)
      activate(topic, group, tenant)
    end
    local from, to = of('d', topic, ''), of('d', topic, group)
    if call('EXISTS', from) == 1 then call('ZUNIONSTORE', to, 2, to, from) end
    call('DEL', from, of('t', topic, ''), of('f', topic, ''))
  else
    for _, member in ipairs(call('HVALS', P .. 'i:' .. topic)) do
      local value = value_of(topic, member)
      if value then
        local head = head_of(value)
        if head.due > now then
          call('ZADD', of('d', topic, group), head.due, member)
        elseif not is_held(topic, group, head.tenant, member) then
          enqueue(topic, group, head.tenant, head.rank, member)
        end
      end
    end
  end
  rest(topic)
end

for n = 7, #ARGV do
  local topic = ARGV[n]
  if limit > 0 then join(topic) end
  local due = nil
  for _, other in ipairs(groups(topic)) do
    local next_due = show(topic, other)
    if next_due then due = math.min(due or math.huge, next_due) end
  end
  topics[#topics + 1] = topic
  dues[topic] = due
end

local marks = P .. 'u:' .. group
local ways = P .. 'v:' .. group
local function mark_of(topic) return tonumber(call('HGET', marks, topic) or '0') end
local present = mark_of('')

-- How far the tenant is, all topics together: never behind the group.
local function way_of(tenant) return math.max(present, tonumber(call('ZSCORE', ways, tenant) or '0')) end

-- Topic and member of the tenant's message that goes first.
local function best_of(tenant)
  local best, member, rank = nil, nil, math.huge
  for _, topic in ipairs(topics) do
    local first = call('ZRANGE', queue_of(topic, group, tenant), 0, 0, 'WITHSCORES')
    local its = tonumber(first[2] or 'inf')
    if first[1] and (not best or its < rank or (its == rank and first[1] < member)) then
      best, member, rank = topic, first[1], its
    end
  end
  return best, member
end

-- The tenant whose turn it is: for each topic those stand that are least far there; of these the one goes that is least
-- far altogether, and where several are as far, the one whose message ranks first.
local stand_ins = math.max(2, math.floor(16 / #topics))
local function turn()
  local best, least, best_rank, best_member = nil, math.huge, nil, nil
  for _, topic in ipairs(topics) do
    local key = of('t', topic, group)
    local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[1] then
      for _, tenant in ipairs(call('ZRANGEBYSCORE', key, first[2], first[2], 'LIMIT', 0, stand_ins)) do
        local way = way_of(tenant)
        if way <= least then
          local message = call('ZRANGE', queue_of(topic, group, tenant), 0, 0, 'WITHSCORES')
          local rank = tonumber(message[2])
          if way < least or rank < best_rank or (rank == best_rank and message[1] < best_member) then
            best, least, best_rank, best_member = tenant, way, rank, message[1]
          end
        end
      end
    end
  end
  return best, least
end

local function advance(topic, tenant, way)
  local step = R.steps[tenant] or 1
  local at = tonumber(call('ZSCORE', of('t', topic, group), tenant) or '0')
  if way > present then
    present = way
    call('ZREMRANGEBYSCORE', ways, '-inf', present)
  end
  call('ZADD', ways, way + step, tenant)
  call('HSET', marks, '', string.format('%.17g', present))
  if at > mark_of(topic) then call('HSET', marks, topic, string.format('%.17g', at)) end
  if #claims == 0 then
    call('EXPIRE', ways, IDLE_S)
    call('EXPIRE', marks, IDLE_S)
  end
  for _, other in ipairs(topics) do call('ZADD', of('t', other, group), 'XX', 'INCR', step, tenant) end
end

while #claims < limit do
  local tenant, way = turn()
  if not tenant then break end
  local topic, member = best_of(tenant)
  -- The removal first: it succeeds where memory is short, and lets the rest of the script through.
  call('ZREM', queue_of(topic, group, tenant), member)
  local value = value_of(topic, member)
  local head = value and head_of(value)
  if not value then
    call('HDEL', of('e', topic, group), member)
  elseif head.expires > 0 and head.expires <= now then
    release(topic, group, tenant, member, head.id)
  else
    advance(topic, tenant, way)
    local deliveries, lapses = deliveries_of(topic, group, member)
    local token = name .. '.' .. #claims
    call('HSET', of('e', topic, group), member, (deliveries + 1) .. ':' .. lapses .. ':' .. token)
    call('ZADD', of('h', topic, group), now + R.hide_us, member)
    limit_life(topic, of('e', topic, group))
    limit_life(topic, of('h', topic, group))
    dues[topic] = math.min(dues[topic] or math.huge, now + R.hide_us)
    claims[#claims + 1] = {topic, member, deliveries + 1, token, value}
  end
  leave_if_idle(topic, group, tenant)
end
keep_seq()
local looks = {}
for _, topic in ipairs(topics) do
  looks[#looks + 1] = {topic, call('GET', P .. 'n:' .. topic) or '0', fmt(dues[topic] or 0)}
end
return {claims, looks}
