-- ARGV: a key, a channel, 1 in a Cluster. The commands of a node that this user may not send. Servers before 7.0 cannot tell.
if not redis.acl_check_cmd then return {} end
local key, channel = ARGV[1], ARGV[2]
local commands = {
  { 'TIME' }, { 'PING' }, { 'EVAL', 'return 1', '0' }, { 'PEXPIRE', key, '1' }, { 'PTTL', key },
  { 'HGET', key, 'f' }, { 'HGETALL', key }, { 'HSET', key, 'f', 'v' }, { 'HSETNX', key, 'f', 'v' }, { 'HDEL', key, 'f' },
  { 'HLEN', key }, { 'HEXISTS', key, 'f' }, { 'HINCRBY', key, 'f', '1' },
  { 'ZADD', key, '1', 'm' }, { 'ZREM', key, 'm' }, { 'ZRANGE', key, '0', '1' }, { 'ZRANGEBYSCORE', key, '0', '1' },
  { 'ZREMRANGEBYSCORE', key, '0', '1' },
  { 'XADD', key, '*', 'f', 'v' }, { 'XTRIM', key, 'MAXLEN', '1' }, { 'XRANGE', key, '-', '+' }, { 'XREVRANGE', key, '+', '-' },
  { 'PUBLISH', channel, 'm' }, { 'SUBSCRIBE', channel }, { 'UNSUBSCRIBE', channel },
}
if ARGV[3] == '1' then
  for _, command in ipairs({ { 'ASKING' }, { 'SPUBLISH', channel, 'm' }, { 'SSUBSCRIBE', channel }, { 'SUNSUBSCRIBE', channel } }) do
    commands[#commands + 1] = command
  end
end
local denied = {}
for _, command in ipairs(commands) do
  -- It raises an error about a command that was renamed: whoever did that knows why.
  local is_known, may = pcall(redis.acl_check_cmd, unpack(command))
  if is_known and not may then denied[#denied + 1] = string.lower(command[1]) end
end
return denied
