-- ARGV: node, what passed there. Of a node that nothing is noted of, nothing is.
if not counts[me] then return { now, 0, {}, { '', 0 }, {}, 0 } end
local is_awaited = noted['o'] and noted['o'] ~= me
pour(is_awaited and 'w:' or 'l:', 2, add)
return { now, -1, others(), owner(), levels(), 1 }
