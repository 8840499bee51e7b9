-- ARGV: node, from whom, 1 if that is no more, full buckets.
if next(noted) == nil then return { now, 0, {}, { '', 0 }, {}, 0 } end
local had = total
take_from(ARGV[2], 4, ARGV[3] == '1')
local whose, now_in = owner(), levels()
if had > 0 and total == 0 then keep(0) end
return { now, -1, others(), whose, now_in, counts[me] and 1 or 0 }
