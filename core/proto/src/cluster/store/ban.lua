-- KEYS[3], KEYS[4]: bans (subject -> end and reason), their ends. ARGV: node, subject, for how many ms (0: no end), reason.
for _, subject in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', string.format('%.0f', now), 'LIMIT', 0, 256)) do
  redis.call('HDEL', KEYS[3], subject)
  redis.call('ZREM', KEYS[4], subject)
end
if redis.call('HLEN', KEYS[3]) >= 65536 and redis.call('HEXISTS', KEYS[3], ARGV[2]) == 0 then
  return redis.error_reply('ERR 65536 bans are in force')
end
local ends = '0'
redis.call('ZREM', KEYS[4], ARGV[2])
if ARGV[3] ~= '0' then
  ends = string.format('%.0f', now + ARGV[3] * 1000)
  redis.call('ZADD', KEYS[4], ends, ARGV[2])
end
redis.call('HSET', KEYS[3], ARGV[2], ends .. ' ' .. ARGV[4])
return append('k', 'b', 'n', ARGV[1], 's', ARGV[2], 'e', ends, 'r', ARGV[4])
