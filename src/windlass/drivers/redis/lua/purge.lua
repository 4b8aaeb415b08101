-- uses: clock value count place body move
-- Deletes finished jobs, the oldest of each stream first.
-- Args: the letter of a status, age in seconds, limit, numbers of streams. Returns: how many.
call('DEL', P .. 'nothing')
local letter, limit = ARGV[1], tonumber(ARGV[3])
local cut = string.format('%.17g', now - tonumber(ARGV[2]))
local ids, keys = {}, {}
for n = 4, #ARGV do
  if #ids >= limit then break end
  local key = P .. 'age:' .. ARGV[n] .. ':' .. letter
  for _, id in ipairs(call('ZRANGEBYSCORE', key, '-inf', cut, 'LIMIT', 0, limit - #ids)) do
    ids[#ids + 1] = id
    keys[#ids] = ARGV[n] .. ':' .. letter
  end
end
local values = values_of(ids)
for n = 1, #ids do
  if values[n] and char(byte(values[n], 1)) == letter then
    move(ids[n], values[n], 'D', '', '', '', false)
  else -- an entry that nothing stands behind
    leave(P .. 'age:' .. keys[n], ids[n])
    leave(P .. 'done:' .. keys[n], ids[n])
  end
end
write_places()
write_counts()
return #ids
