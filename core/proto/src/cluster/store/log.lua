-- Before each script that appends to the log. KEYS: log, state, and those of the script. What is trimmed is told by the first
-- entry that is left.
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local function append(...)
  local id = redis.call('XADD', KEYS[1], '*', ...)
  if redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', 65536) > 0 then
    redis.call('HSET', KEYS[2], 'oldest', redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][1])
  end
  return { now, id }
end
