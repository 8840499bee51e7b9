-- ARGV: node, keep_ms, what is in its buckets if it had them for itself. While others hold the user they touch it: it is kept for no
-- longer on behalf of one that goes.
if counts[me] then set_count(me, counts[me] - 1) end
pour('l:', 3, math.max)
if noted['o'] == me and not counts[me] then disown() end
if total == 0 then keep(ARGV[2]) end
return { now }
