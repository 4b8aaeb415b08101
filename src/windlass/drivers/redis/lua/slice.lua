-- uses: clock
-- Finds ids in indexes and among what runs, at one instant: a job on its way from one to another is in one of them.
-- Args: the lowest id, the first above the highest, how many of each index at most, how many running jobs are looked through
--   at most, whose ('' = everybody's), keys of indexes. Returns: the ids of each index, newest first, and of what runs; nothing
--   in its place if there are too many.
local low, high, most, worker = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4]), ARGV[5]
local found = {}
for n = 6, #ARGV do
  found[n - 5] = call('ZREVRANGEBYSCORE', ARGV[n], '(' .. ARGV[2], ARGV[1], 'LIMIT', 0, ARGV[3])
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
  for _, held in ipairs(sets) do
    for _, id in ipairs(call('SMEMBERS', held)) do
      local number = tonumber(id)
      if number >= low and number < high then running[#running + 1] = id end
    end
  end
end
found[#found + 1] = running
return found
