-- uses: clock value place fault
-- Groups the failed. Args: how many groups, how many retrying jobs are looked at, numbers of streams.
-- Returns: for each group: its fingerprint, how many are dead, how many retry, the newest id; in no order. Writes nothing but that it
-- forgets groups that nobody is in.
call('DEL', P .. 'nothing')
local dead, retry, newest, order = {}, {}, {}, {}

local function seen(fault, id)
  if not newest[fault] then order[#order + 1] = fault end
  newest[fault] = max(newest[fault] or 0, tonumber(id))
end

for _, fault in ipairs(call('ZREVRANGE', P .. 'fault', 0, tonumber(ARGV[1]) - 1)) do
  local last = call('ZREVRANGE', P .. 'fault:' .. fault, 0, 0)[1]
  if last then
    seen(fault, last)
    dead[fault] = call('ZCARD', P .. 'fault:' .. fault)
  else
    call('ZREM', P .. 'fault', fault)
  end
end

local ids, most = {}, tonumber(ARGV[2])
for n = 3, #ARGV do
  for _, id in ipairs(call('ZREVRANGE', P .. 'wait:' .. ARGV[n] .. ':t', 0, most - 1)) do ids[#ids + 1] = id end
end
table.sort(ids, function(a, b) return tonumber(a) > tonumber(b) end)
for n = #ids, most + 1, -1 do ids[n] = nil end
for n, v in ipairs(values_of(ids)) do
  local fault = v and fault_in(error_of(v))
  if fault then
    seen(fault, ids[n])
    retry[fault] = (retry[fault] or 0) + 1
  end
end
local found = {}
for n, fault in ipairs(order) do
  found[n] = {fault, dead[fault] or 0, retry[fault] or 0, string.format('%.0f', newest[fault])}
end
return found
