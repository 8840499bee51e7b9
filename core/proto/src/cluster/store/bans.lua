-- KEYS: log. Where it is before all bans are read: what comes between is read twice.
local clock = redis.call('TIME')
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
return { clock[1] * 1000000 + clock[2], last and last[1] or '0-0' }
