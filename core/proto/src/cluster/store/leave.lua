-- KEYS: nodes, state. ARGV: node.
redis.call('HINCRBY', KEYS[2], 'version', redis.call('ZREM', KEYS[1], ARGV[1]))
return 1
