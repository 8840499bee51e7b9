-- Before each script about a user. KEYS[1] is all that is noted of one:
--   n:NODE   how many connections a node has
--   o        the node that has the buckets for itself; without it they are here, for all
--   l:SCOPE  what is in the buckets (those of an owner are as it left them here): units, how many leak in a second, bytes,
--            how many leak in a second, and at what time (microseconds of Redis)
--   w:SCOPE  what others passed while an owner had not given its buckets: poured into them once it has; nothing of it leaks
local key, me = KEYS[1], ARGV[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local noted, counts, total = {}, {}, 0

local function set(field, value)
  noted[field] = value
  if value then redis.call('HSET', key, field, value) else redis.call('HDEL', key, field) end
end

local function set_count(node, count)
  total = total - (counts[node] or 0) + count
  counts[node] = count > 0 and count or nil
  set('n:' .. node, counts[node])
end

local function read()
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    noted[all[i]] = all[i + 1]
    if string.sub(all[i], 1, 2) == 'n:' then
      counts[string.sub(all[i], 3)] = tonumber(all[i + 1])
      total = total + tonumber(all[i + 1])
    end
  end
end

-- What a field holds now. A clock that was set back leaks nothing.
local function level(field)
  if not noted[field] then return { 0, 0, 0, 0 } end
  local units, rate, bytes, byte_rate, at =
    string.match(noted[field], '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  local seconds = math.max(0, now - at) / 1000000
  if string.sub(field, 1, 1) == 'w' then seconds = 0 end
  return { math.max(0, units - rate * seconds), tonumber(rate),
    math.max(0, bytes - byte_rate * seconds), tonumber(byte_rate) }
end

local function set_level(field, now_in)
  local text
  if now_in[1] > 0 or now_in[3] > 0 then
    text = string.format('%.17g %.17g %.17g %.17g %.0f', now_in[1], now_in[2], now_in[3], now_in[4], now)
  end
  if text or noted[field] then set(field, text) end
end

-- Levels from ARGV[first] on, to the end or before ARGV[behind]: the buckets are at least as full (math.max), or so much
-- fuller (add).
local function add(a, b) return a + b end
local function pour(kind, first, how, behind)
  for i = first, (behind or #ARGV + 1) - 1, 5 do
    local field = kind .. ARGV[i]
    local before = level(field)
    set_level(field, { how(before[1], tonumber(ARGV[i + 1])), tonumber(ARGV[i + 2]),
      how(before[3], tonumber(ARGV[i + 3])), tonumber(ARGV[i + 4]) })
  end
end

-- The buckets are here again, with what others passed meanwhile.
local function disown()
  set('o', nil)
  local waiting = {}
  for field in pairs(noted) do
    if string.sub(field, 1, 2) == 'w:' then waiting[#waiting + 1] = field end
  end
  for _, field in ipairs(waiting) do
    local into = 'l:' .. string.sub(field, 3)
    local before, more = level(into), level(field)
    set_level(into, { before[1] + more[1], more[2], before[3] + more[3], more[4] })
    set(field, nil)
  end
end

-- A node that is no more, or does not answer: what it had for itself counts as full, from ARGV[first] on.
local function take_from(node, first, is_gone)
  if noted['o'] == node then
    pour('l:', first, math.max)
    disown()
  end
  if is_gone and counts[node] then set_count(node, 0) end
end

-- Whose the buckets are: '' all nodes', else the owner's. A node that is the only one, and has nothing to give first, owns them.
local function owner()
  if counts[me] and total == counts[me] and not noted['o'] then set('o', me) end
  local is_asked = total ~= (counts[me] or 0)
  for field in pairs(noted) do is_asked = is_asked or string.sub(field, 1, 2) == 'w:' end
  return { noted['o'] or '', is_asked and 1 or 0 }
end

local function levels()
  local sum, list = {}, {}
  for field in pairs(noted) do
    local kind, scope = string.match(field, '^([lw]):(.*)$')
    if kind then
      local more = level(field)
      local all = sum[scope] or { 0, 0, 0, 0 }
      if kind == 'l' or all[2] == 0 then all[2], all[4] = more[2], more[4] end
      all[1], all[3] = all[1] + more[1], all[3] + more[3]
      sum[scope] = all
    end
  end
  for scope, all in pairs(sum) do
    list[#list + 1] = scope
    for i = 1, 4 do list[#list + 1] = string.format('%.17g', all[i]) end
  end
  return list
end

local function others()
  local list = {}
  for node, count in pairs(counts) do
    if node ~= me then
      list[#list + 1] = node
      list[#list + 1] = count
    end
  end
  return list
end

-- It is kept while nodes touch it; without a connection, for as long as what is in the buckets takes to leak.
local function keep(keep_ms)
  if next(noted) == nil then return end
  if total > 0 then return redis.call('PEXPIRE', key, keep_ms) end
  local seconds = 0
  for field in pairs(noted) do
    local now_in = level(field)
    for i = 1, 3, 2 do
      if now_in[i] > 0 and now_in[i + 1] > 0 then seconds = math.max(seconds, now_in[i] / now_in[i + 1]) end
    end
  end
  redis.call('PEXPIRE', key, math.ceil(math.min(seconds, 1e9) * 1000))
end

read()
