-- Gives a dead letter back. ARGV: ..., topic, member, group, the value's new first line. Returns the number of the news, or nothing where it
-- is gone.
local topic, member, group = ARGV[4], ARGV[5], ARGV[6]
local name = member .. ':' .. group
local letter = call('HGET', P .. 'b:' .. topic, name)
if not letter then return {} end
call('ZREM', P .. 'l:' .. topic, name)
call('HDEL', P .. 'b:' .. topic, name)
local body = string.match(letter, '^[^\n]*\n[^\n]*\n(.*)$')
local value = ARGV[7] .. '\n' .. body
local head = head_of(value)
call('SADD', P .. 'g:' .. topic, group)
known_groups[topic] = nil
call('HSET', P .. 'm:' .. topic, member, value)
call('HSETNX', P .. 'i:' .. topic, head.id, member)
enqueue(topic, group, head.tenant, head.rank, member)
local number = tell(topic)
call('ZADD', P .. 'topics', now, topic)
rest(topic)
keep_seq()
return {topic, number}
