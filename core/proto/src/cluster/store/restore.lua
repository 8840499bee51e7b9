-- ARGV: node, connections (0: the last one is gone), keep_ms, what is in its buckets.
set_count(me, tonumber(ARGV[2]))
pour('l:', 4, math.max)
if noted['o'] == me and not counts[me] then disown() end
local whose, now_in = owner(), levels()
-- On behalf of one that goes it is kept for no longer, as by an exit.
if counts[me] or total == 0 then keep(ARGV[3]) end
return { now, -1, others(), whose, now_in, counts[me] and 1 or 0 }
