-- Claims messages. ARGV: ..., group, limit, beginning of the tokens, then topics. Returns the claims (topic, member,
-- deliveries, token, value), and per topic the number of its last news and when the next message comes back.
local group, limit, name = ARGV[4], tonumber(ARGV[5]), ARGV[6]
local topics, dues = {}, {}

-- A group that claims for the first time begins with what no group has settled yet.
local function join(topic)
  if call('SISMEMBER', P .. 'g:' .. topic, group) == 1 then return end
  local others = call('SMEMBERS', P .. 'g:' .. topic)
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

-- The tenant's message that goes first: its rank, member and topic.
local function best_of(tenant)
  local best = nil
  for _, topic in ipairs(topics) do
    local first = call('ZRANGE', queue_of(topic, group, tenant), 0, 0, 'WITHSCORES')
    if first[1] then
      local rank = tonumber(first[2])
      if not best or rank < best.rank or (rank == best.rank and first[1] < best.member) then
        best = {rank = rank, member = first[1], topic = topic, tenant = tenant}
      end
    end
  end
  return best
end

-- The message whose turn it is: of each topic those tenants stand for it that are least far there; among these the one
-- goes that is least far altogether, and where several are as far, the one whose message ranks first.
local function turn()
  local seen, best, least = {}, nil, math.huge
  for _, topic in ipairs(topics) do
    local key = of('t', topic, group)
    local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[1] then
      for _, tenant in ipairs(call('ZRANGEBYSCORE', key, first[2], first[2], 'LIMIT', 0, 8)) do
        if not seen[tenant] then
          seen[tenant] = true
          local way = way_of(tenant)
          local candidate = way <= least and best_of(tenant)
          if candidate and (way < least or not best or candidate.rank < best.rank
              or (candidate.rank == best.rank and candidate.member < best.member)) then
            best, least = candidate, way
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
  call('EXPIRE', ways, IDLE_S)
  call('HSET', marks, '', string.format('%.17g', present))
  if at > mark_of(topic) then call('HSET', marks, topic, string.format('%.17g', at)) end
  call('EXPIRE', marks, IDLE_S)
  for _, other in ipairs(topics) do
    local key = of('t', other, group)
    if other == topic or call('ZSCORE', key, tenant) then call('ZINCRBY', key, step, tenant) end
  end
end

local claims = {}
while #claims < limit do
  local best, way = turn()
  if not best then break end
  local topic, member, tenant = best.topic, best.member, best.tenant
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
