-- KEYS[3], KEYS[4]: as for a ban. ARGV: node, subject.
redis.call('HDEL', KEYS[3], ARGV[2])
redis.call('ZREM', KEYS[4], ARGV[2])
return append('k', 'u', 'n', ARGV[1], 's', ARGV[2])
