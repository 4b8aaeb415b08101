-- uses: clock value place
-- Finds ids in indexes and among what runs, at one instant: a job on its way from one to another is in one of them.
-- Args: the lowest id, the first above the highest, how many of each index at most, how many running jobs are looked through
--   at most, whose ('' = everybody's), keys of indexes. Returns: the ids of each index, newest first, and of what runs; nothing
--   in its place if there are too many.
local low, high, each, most, worker = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local FEW = 32

local function within(ids, found)
  for _, id in ipairs(ids) do
    local number = tonumber(id)
    if number >= low and number < high then found[#found + 1] = id end
  end
end

-- Returns the newest ids of the index "done", which has them in buckets: only the newest of these are read.
local function filed(key)
  local ids, start, numbers = {}, 0, nil
  repeat
    numbers = call('ZREVRANGEBYSCORE', key, bucket_of(high - 1), bucket_of(low), 'LIMIT', start, FEW)
    for _, number in ipairs(numbers) do
      if #ids >= each then break end
      within(call('SMEMBERS', key .. ':' .. number), ids)
    end
    start = start + FEW
  until #ids >= each or #numbers < FEW
  table.sort(ids, function(a, b) return tonumber(a) > tonumber(b) end)
  for n = #ids, each + 1, -1 do ids[n] = nil end
  return ids
end

local found, done = {}, P .. 'done:'
for n = 6, #ARGV do
  if sub(ARGV[n], 1, #done) == done then
    found[n - 5] = filed(ARGV[n])
  else
    found[n - 5] = call('ZREVRANGEBYSCORE', ARGV[n], '(' .. ARGV[2], ARGV[1], 'LIMIT', 0, each)
  end
end
local sets, size = {}, 0
if most > 0 then
  sets[1] = P .. 'hand'
  for _, holder in ipairs(call('SMEMBERS', P .. 'holders')) do
    if worker == '' or worker == holder then sets[#sets + 1] = P .. 'held:' .. holder end
  end
  for _, held in ipairs(sets) do size = size + call('SCARD', held) end
end
local running = size <= most and {}
if running then
  for _, held in ipairs(sets) do within(call('SMEMBERS', held), running) end
end
found[#found + 1] = running
return found
