-- What all scripts of the bus share. ARGV: prefix of all keys, now in microseconds, the rules as JSON.
--
--   seq            the last number given: the time in microseconds, or one more than the last
--   topics         zset  topic -> when it was last used
--   g:TOPIC        set   groups
--   i:TOPIC        hash  id -> member: messages that no group has settled
--   y:TOPIC        zset  member -> when it expires
--   m:TOPIC        hash  member -> value: messages of work topics, and of others those that were revived
--   x:TOPIC        stream: messages of all other topics, by number
--   n:TOPIC        number of the last news
--   l:TOPIC b:TOPIC      zset and hash of dead letters
--   q:TOPIC|GROUP|TENANT zset member -> rank: what can be claimed
--   t:TOPIC|GROUP  zset  tenant -> how far it is on the topic: tenants with something to claim
--   f:TOPIC|GROUP  zset  the same of tenants with nothing to claim, as far as they are ahead
--   d:TOPIC|GROUP  zset  member -> due: delayed
--   h:TOPIC|GROUP  zset  member -> until: claimed
--   e:TOPIC|GROUP  hash  member -> deliveries:lapses:token, once it was claimed
--   v:GROUP        zset  tenant -> how far it is, all topics together
--   u:GROUP        hash  topic -> how far the last that was served was; "": all topics together
--
-- A member is the message's number with 16 digits. A value is a line of JSON, which scripts read, and a line with the
-- body, which they do not. A work topic that nobody has claimed from yet queues for the group "".
local P, now, R = ARGV[1], tonumber(ARGV[2]), cjson.decode(ARGV[3])
local call = redis.call
local IDLE_S = 30 * 86400
local JOIN_MANY = 1000

local function fmt(number) return string.format('%.0f', number) end
local function member_of(number) return string.format('%016.0f', number) end
local function is_work(topic) return string.sub(topic, 1, 6) == 'tasks.' end
local function is_reply(topic) return string.sub(topic, 1, 8) == 'replies.' end
local function of(kind, topic, group) return P .. kind .. ':' .. topic .. '|' .. #group .. ':' .. group end
local function queue_of(topic, group, tenant) return of('q', topic, group) .. '|' .. tenant end

-- How long keys of the topic live that hold nothing that waits.
local function life_s(topic)
  if is_reply(topic) then return R.reply_s end
  return R.keep_s
end

local function limit_life(topic, key)
  if is_reply(topic) then call('EXPIRE', key, R.reply_s) end
end

local last_seq
local function next_seq()
  last_seq = math.max((last_seq or tonumber(call('GET', P .. 'seq') or '0')) + 1, now)
  return last_seq
end

local function keep_seq()
  if last_seq then call('SET', P .. 'seq', fmt(last_seq), 'EX', IDLE_S) end
end

-- Says that something can be claimed or read on the topic; `due`: that it can from then on.
local function tell(topic, due)
  if due then
    call('PUBLISH', P .. 'w:' .. topic, '0 ' .. fmt(due))
    return '0'
  end
  local number = fmt(next_seq())
  call('SET', P .. 'n:' .. topic, number, 'EX', math.min(life_s(topic), 86400))
  call('PUBLISH', P .. 'w:' .. topic, number .. ' 0')
  return number
end

local known_groups = {}
local function groups(topic)
  local found = known_groups[topic]
  if not found then
    found = call('SMEMBERS', P .. 'g:' .. topic)
    if #found == 0 and is_work(topic) then found = {''} end
    known_groups[topic] = found
  end
  return found
end

-- The value of a message, false when it is gone.
local function value_of(topic, member)
  local value = call('HGET', P .. 'm:' .. topic, member)
  if value or is_work(topic) then return value end
  local id = fmt(tonumber(member)) .. '-0'
  local found = call('XRANGE', P .. 'x:' .. topic, id, id)
  return found[1] and found[1][2][2]
end

-- What scripts know of a value: id, tenant, rank, expires, due, priority.
local function head_of(value)
  local head = cjson.decode(string.sub(value, 1, string.find(value, '\n', 1, true) - 1))
  return {id = head[1], tenant = head[2], rank = head[3], expires = head[4], due = head[5], priority = head[6]}
end

-- A tenant with something to claim starts where the topic is, or where it was itself if that is further.
local active = {}
local function activate(topic, group, tenant)
  local key, mark = of('t', topic, group), topic .. '|' .. #group .. ':' .. group .. '|' .. tenant
  if active[mark] then return end
  active[mark] = true
  if call('ZSCORE', key, tenant) then return end
  local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
  local at = tonumber(first[2] or '0')
  local served = tonumber(call('HGET', P .. 'u:' .. group, topic) or '0')
  local own = tonumber(call('ZSCORE', of('f', topic, group), tenant) or '0')
  call('ZADD', key, math.max(at, served, own), tenant)
  limit_life(topic, key)
end

local function enqueue(topic, group, tenant, rank, member)
  local key = queue_of(topic, group, tenant)
  call('ZADD', key, rank, member)
  limit_life(topic, key)
  activate(topic, group, tenant)
end

-- A tenant whose queue is empty leaves its turn; how far it is stays known for a while.
local function leave_if_idle(topic, group, tenant)
  if call('EXISTS', queue_of(topic, group, tenant)) == 1 then return end
  local key, idle = of('t', topic, group), of('f', topic, group)
  local at = call('ZSCORE', key, tenant)
  if not at then return end
  call('ZREM', key, tenant)
  active[topic .. '|' .. #group .. ':' .. group .. '|' .. tenant] = nil
  call('ZREMRANGEBYSCORE', idle, '-inf', call('HGET', P .. 'u:' .. group, topic) or '0')
  call('ZADD', idle, at, tenant)
  call('EXPIRE', idle, math.min(life_s(topic), 86400))
end

-- Takes the message out of whatever it waits in; whether it was there.
local function take_out(topic, group, tenant, member)
  if call('ZREM', of('h', topic, group), member) == 1 then return true end
  if call('ZREM', of('d', topic, group), member) == 1 then return true end
  if call('ZREM', queue_of(topic, group, tenant), member) == 0 then return false end
  leave_if_idle(topic, group, tenant)
  return true
end

local function is_held(topic, group, tenant, member)
  return call('ZSCORE', of('h', topic, group), member) or call('ZSCORE', of('d', topic, group), member)
    or call('ZSCORE', queue_of(topic, group, tenant), member)
end

local function is_wanted(topic, tenant, member)
  for _, group in ipairs(groups(topic)) do
    if is_held(topic, group, tenant, member) then return true end
  end
  return false
end

-- Lets the keys of a topic grow old that hold nothing that waits, and those that do as soon as nothing does. Of a work
-- topic only its groups do; whoever claims from it is one of them again.
local function rest(topic)
  if is_work(topic) then
    call('EXPIRE', P .. 'g:' .. topic, IDLE_S)
    return
  end
  local is_busy = false
  for _, group in ipairs(groups(topic)) do
    is_busy = is_busy or call('EXISTS', of('t', topic, group), of('d', topic, group), of('h', topic, group)) > 0
  end
  for _, kind in ipairs({'x:', 'i:', 'g:', 'y:', 'm:'}) do
    if is_busy and not is_reply(topic) then
      call('PERSIST', P .. kind .. topic)
    else
      call('EXPIRE', P .. kind .. topic, life_s(topic))
    end
  end
end

-- The group is done with a message that was taken out.
local function release(topic, group, tenant, member, id)
  call('HDEL', of('e', topic, group), member)
  if call('HGET', P .. 'i:' .. topic, id) == member then call('HDEL', P .. 'i:' .. topic, id) end
  local many = groups(topic)
  if #many < 2 or not is_wanted(topic, tenant, member) then call('HDEL', P .. 'm:' .. topic, member) end
  if not is_work(topic) and call('HLEN', P .. 'i:' .. topic) == 0 then rest(topic) end
end

local function deliveries_of(topic, group, member)
  local entry = call('HGET', of('e', topic, group), member)
  if not entry then return 0, 0, '' end
  local deliveries, lapses, token = string.match(entry, '^(%d+):(%d+):(.*)$')
  return tonumber(deliveries), tonumber(lapses), token
end

local function trim_letters(topic)
  local order, letters = P .. 'l:' .. topic, P .. 'b:' .. topic
  while true do
    local first = call('ZRANGE', order, 0, 0)[1]
    if not first then return end
    local value = call('HGET', letters, first)
    if value and call('ZCARD', order) <= R.keep then
      local head = cjson.decode(string.sub(value, 1, string.find(value, '\n', 1, true) - 1))
      if tonumber(head[3]) > now - R.keep_us then return end
    end
    call('ZREM', order, first)
    call('HDEL', letters, first)
  end
end

-- Makes a message that was taken out a dead letter.
local function bury(topic, group, member, value, reason)
  local deliveries = deliveries_of(topic, group, member)
  local head, name = head_of(value), member .. ':' .. group
  call('ZADD', P .. 'l:' .. topic, tonumber(member), name)
  local line = cjson.encode({group, reason, fmt(now), deliveries})
  call('HSET', P .. 'b:' .. topic, name, line .. '\n' .. value)
  call('EXPIRE', P .. 'l:' .. topic, life_s(topic))
  call('EXPIRE', P .. 'b:' .. topic, life_s(topic))
  trim_letters(topic)
  release(topic, group, head.tenant, member, head.id)
end

local function come_back(topic, group, member)
  local value = value_of(topic, member)
  if not value then
    call('HDEL', of('e', topic, group), member)
    return
  end
  local deliveries, lapses, token = deliveries_of(topic, group, member)
  if token ~= '' then
    lapses = lapses + 1
    if lapses >= R.max_deliveries then return bury(topic, group, member, value, R.lapsed) end
    call('HSET', of('e', topic, group), member, deliveries .. ':' .. lapses .. ':' .. token)
  end
  local head = head_of(value)
  if head.expires > 0 and head.expires <= now then return release(topic, group, head.tenant, member, head.id) end
  enqueue(topic, group, head.tenant, head.rank, member)
end

-- Shows the group again what was hidden long enough; when the next message comes back, or nil.
local function show(topic, group)
  local has_shown, due = false, nil
  for _, kind in ipairs({'h', 'd'}) do
    local key = of(kind, topic, group)
    local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[1] and tonumber(first[2]) <= now then
      for _, member in ipairs(call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, JOIN_MANY)) do
        call('ZREM', key, member)
        come_back(topic, group, member)
      end
      has_shown = true
      first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
    end
    if first[1] then due = math.min(due or math.huge, tonumber(first[2])) end
  end
  if has_shown then tell(topic) end
  return due
end

-- Settles for every group what nobody waits for any more; what is claimed goes when its claim ends.
local function expire(topic)
  local key = P .. 'y:' .. topic
  for _, member in ipairs(call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, JOIN_MANY)) do
    call('ZREM', key, member)
    local value = value_of(topic, member)
    if value then
      local head = head_of(value)
      for _, group in ipairs(groups(topic)) do
        if not call('ZSCORE', of('h', topic, group), member) and take_out(topic, group, head.tenant, member) then
          release(topic, group, head.tenant, member, head.id)
        end
      end
      if not is_work(topic) and call('HGET', P .. 'i:' .. topic, head.id) == member then
        call('HDEL', P .. 'i:' .. topic, head.id)
      end
    end
  end
end

-- How many messages wait for the group, those that are claimed included.
local function waiting_for(topic, group)
  local count = call('ZCARD', of('h', topic, group)) + call('ZCARD', of('d', topic, group))
  for _, tenant in ipairs(call('ZRANGE', of('t', topic, group), 0, -1)) do
    count = count + call('ZCARD', queue_of(topic, group, tenant))
  end
  return count
end
