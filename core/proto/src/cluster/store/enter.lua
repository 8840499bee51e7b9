-- ARGV: node, most, keep_ms, how many nodes are gone, those, full buckets. Without a place nothing is noted.
local first = 5 + ARGV[4]
for i = 5, first - 1 do
  if ARGV[i] ~= me then take_from(ARGV[i], first, true) end
end
local open = total
local is_in = open < tonumber(ARGV[2])
if is_in then set_count(me, (counts[me] or 0) + 1) end
local whose, now_in = owner(), levels()
keep(ARGV[3])
return { now, is_in and -1 or open, others(), whose, now_in, counts[me] and 1 or 0 }
