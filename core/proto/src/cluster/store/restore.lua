-- ARGV: node, connections, keep_ms, what is in its buckets.
set_count(me, tonumber(ARGV[2]))
pour('l:', 4, math.max)
local whose, now_in = owner(), levels()
keep(ARGV[3])
return { now, -1, others(), whose, now_in, counts[me] and 1 or 0 }
