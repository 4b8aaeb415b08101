-- uses: clock value | count place body keys(holds) batches(batches) gates(gates) fault signal move
-- Deletes finished jobs, those of each stream that began to end first.
-- Args: the letter of a status, age in seconds, limit, numbers of streams. Returns: how many, 1 if there may be more.
call('DEL', P .. 'nothing')
local letter, left, cut = ARGV[1], tonumber(ARGV[3]), now - tonumber(ARGV[2])
local deleted, looked = 0, 0

-- Deletes from a bucket what is old enough, and notes when the first of the others ended.
local function purge(of, number)
  local ids = call('SMEMBERS', bucket(of, number))
  local values, first = values_of(ids), math.huge
  looked = looked + #ids
  for n = 1, #ids do
    local v = values[n]
    if not v or char(byte(v, 1)) ~= letter then -- an entry that nothing stands behind
      unfile(ids[n], of)
    else
      local finished = unpack_at('<d', v, 46)
      if finished <= cut and left > 0 then
        move(ids[n], v, 'D', '', '', '', false, '')
        left, deleted = left - 1, deleted + 1
      else
        first = min(first, finished)
      end
    end
  end
  if first < math.huge then
    call('ZADD', P .. 'age:' .. of, first, number)
  else
    list(thinned, of)[number] = true
  end
end

for n = 4, #ARGV do
  local of = ARGV[n] .. ':' .. letter
  local due = call('ZRANGEBYSCORE', P .. 'age:' .. of, '-inf', string.format('%.17g', cut), 'LIMIT', 0, left)
  for _, number in ipairs(due) do
    if left == 0 or looked >= BUCKET then break end
    purge(of, number)
  end
end
write_places()
write_rest()
return {deleted, (left == 0 or looked >= BUCKET) and 1 or 0}
