-- ARGV: node, keep_ms, what is in its buckets if it had them for itself.
if counts[me] then set_count(me, counts[me] - 1) end
pour('l:', 3, math.max)
if noted['o'] == me and not counts[me] then disown() end
keep(ARGV[2])
return { now }
