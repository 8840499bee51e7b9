-- ARGV: node, what is in its buckets. From now on all draw on them.
if not counts[me] then return { now, 0, {}, { '', 0 }, {}, 0 } end
pour('l:', 2, math.max)
if noted['o'] == me then disown() end
return { now, -1, others(), owner(), levels(), 1 }
