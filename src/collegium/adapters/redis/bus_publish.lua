-- Stores messages. ARGV: ..., then for each run of messages of one topic: its name, when they are due (0: now, alike for
-- all), how many they are, and of each id, tenant, rank, expires (0: never), value. Returns how many were new, and per topic its name and the number of the
-- news; or -1, the topic that is full, and how many wait on it.

-- Whether a message of that id is unsettled and somebody may still want it.
local function is_double(topic, id)
  local member = call('HGET', P .. 'i:' .. topic, id)
  if not member then return false end
  local value = value_of(topic, member)
  if not value then return false end
  local expires = head_of(value).expires
  return expires == 0 or expires > now
end

local runs, topics, counts

local function waiting(topic)
  -- Counting tenant by tenant only where there may be too many.
  local stored = call('HLEN', P .. 'm:' .. topic)
  if not is_work(topic) then stored = stored + call('XLEN', P .. 'x:' .. topic) end
  if stored + counts[topic] <= R.max_waiting then return 0 end
  local most = 0
  for _, group in ipairs(groups(topic)) do most = math.max(most, waiting_for(topic, group)) end
  return most
end

-- Messages of a topic that is only read go by number and age, unless a group still needs them.
local function trim(topic)
  local stream = P .. 'x:' .. topic
  local over = call('XLEN', stream) - R.keep
  local first = call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  local oldest = now - R.keep_us
  if not first or (over * 8 <= R.keep and tonumber(string.match(first[1], '^%d+')) > oldest) then return end
  local from = nil
  while true do
    local entries = call('XRANGE', stream, from or '-', '+', 'COUNT', 100)
    for _, entry in ipairs(entries) do
      local number = tonumber(string.match(entry[1], '^%d+'))
      local member, head = member_of(number), head_of(entry[2][2])
      if (over <= 0 and number > oldest) or is_wanted(topic, head.tenant, member) then
        call('XTRIM', stream, 'MINID', entry[1])
        return
      end
      if call('HGET', P .. 'i:' .. topic, head.id) == member then call('HDEL', P .. 'i:' .. topic, head.id) end
      over = over - 1
      from = '(' .. entry[1]
    end
    if #entries < 100 then
      call('XTRIM', stream, 'MAXLEN', 0)
      return
    end
  end
end

local function append(topic, number, value)
  local stream = P .. 'x:' .. topic
  local done = redis.pcall('XADD', stream, fmt(number) .. '-0', 'm', value)
  if type(done) == 'string' then return number end
  if not string.find(done.err or '', 'equal or smaller', 1, true) then error(done) end
  -- The numbers were lost, and the clock has gone back.
  local info = call('XINFO', 'STREAM', stream)
  for n = 1, #info, 2 do
    if info[n] == 'last-generated-id' then last_seq = tonumber(string.match(info[n + 1], '^%d+')) end
  end
  number = next_seq()
  call('XADD', stream, fmt(number) .. '-0', 'm', value)
  return number
end

local function add(topic, due, id, tenant, rank, expires, value)
  local number = next_seq()
  local is_worked = is_work(topic)
  if not is_worked then number = append(topic, number, value) end
  local member = member_of(number)
  call('HSET', P .. 'i:' .. topic, id, member)
  if is_worked then call('HSET', P .. 'm:' .. topic, member, value) end
  if expires ~= '0' then call('ZADD', P .. 'y:' .. topic, expires, member) end
  for _, group in ipairs(groups(topic)) do
    if due > now then
      local key = of('d', topic, group)
      call('ZADD', key, due, member)
      limit_life(topic, key)
    else
      enqueue(topic, group, tenant, rank, member)
    end
  end
end

-- The messages as they came, without those that are there already; topics in the order in which they first appear.
local function parse()
  local runs, topics, counts, seen, at = {}, {}, {}, {}, 4
  while ARGV[at] do
    local topic, count = ARGV[at], tonumber(ARGV[at + 2])
    local run = {topic = topic, due = tonumber(ARGV[at + 1]), new = {}}
    if not seen[topic] then
      seen[topic], counts[topic] = {}, 0
      topics[#topics + 1] = topic
    end
    for n = at + 3, at + 3 + 5 * (count - 1), 5 do
      if not seen[topic][ARGV[n]] and not is_double(topic, ARGV[n]) then
        seen[topic][ARGV[n]] = true
        run.new[#run.new + 1] = n
        counts[topic] = counts[topic] + 1
      end
    end
    runs[#runs + 1] = run
    at = at + 3 + 5 * count
  end
  return runs, topics, counts
end

runs, topics, counts = parse()
for _, topic in ipairs(topics) do
  local new = counts[topic]
  if new > 0 and waiting(topic) + new > R.max_waiting then
    expire(topic)
    local count = waiting(topic)
    if count + new > R.max_waiting then return {-1, topic, count} end
  end
end
local reply, due = {0}, 0
for _, run in ipairs(runs) do
  due = run.due
  for _, n in ipairs(run.new) do
    add(run.topic, due, ARGV[n], ARGV[n + 1], tonumber(ARGV[n + 2]), ARGV[n + 3], ARGV[n + 4])
  end
end
for _, topic in ipairs(topics) do
  if counts[topic] > 0 then
    local number
    if due > now and is_work(topic) then number = tell(topic, due) else number = tell(topic) end
    if not is_work(topic) then trim(topic) end
    rest(topic)
    call('ZADD', P .. 'topics', now, topic)
    reply[1] = reply[1] + counts[topic]
    reply[#reply + 1] = topic
    reply[#reply + 1] = number
  end
end
keep_seq()
call('EXPIRE', P .. 'topics', IDLE_S)
return reply
