-- uses: clock value count place move
-- Deletes finished jobs, the oldest of each stream first.
-- Args: the letter of a status, age in seconds, limit, numbers of streams. Returns: how many.
call('DEL', P .. 'nothing')
local letter, limit = ARGV[1], tonumber(ARGV[3])
local cut = string.format('%.17g', now - tonumber(ARGV[2]))
local ids = {}
for n = 4, #ARGV do
  if #ids >= limit then break end
  local key = P .. 'age:' .. ARGV[n] .. ':' .. letter
  for _, id in ipairs(call('ZRANGEBYSCORE', key, '-inf', cut, 'LIMIT', 0, limit - #ids)) do ids[#ids + 1] = id end
end
local values = values_of(ids)
for n = 1, #ids do
  if values[n] then move(ids[n], values[n], 'D', '', '', '', false) end
end
write_places()
write_counts()
return #ids
