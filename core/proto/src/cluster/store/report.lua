-- ARGV: node, how many levels of the first kind; how full the buckets are at least, and what passed there. Of a node that nothing is
-- noted of, nothing is.
if not counts[me] then return { now, 0, {}, { '', 0 }, {}, 0 } end
local is_awaited = noted['o'] and noted['o'] ~= me
local passed = 3 + 5 * ARGV[2]
pour('l:', 3, math.max, passed)
pour(is_awaited and 'w:' or 'l:', passed, add)
return { now, -1, others(), owner(), levels(), 1 }
