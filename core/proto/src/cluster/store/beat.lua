-- KEYS: nodes, state, log. ARGV: node, lease_ms, version that it knows the members of, mark if there is none.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local lease = tonumber(ARGV[2])
redis.call('HSETNX', KEYS[2], 'mark', ARGV[4])
local changes = redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
local was_member = 1 - redis.call('ZADD', KEYS[1], string.format('%.0f', now + lease * 1000), ARGV[1])
-- When all nodes are gone, so is their table.
redis.call('PEXPIRE', KEYS[1], math.max(redis.call('PTTL', KEYS[1]), lease))
local version = redis.call('HINCRBY', KEYS[2], 'version', changes + 1 - was_member)
local members = {}
if was_member == 0 or tostring(version) ~= ARGV[3] then members = redis.call('ZRANGE', KEYS[1], 0, -1) end
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
return { now, redis.call('HGET', KEYS[2], 'mark'), version, was_member, last and last[1] or '0-0', members }
