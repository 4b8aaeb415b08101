-- uses: clock value
-- Keeps what running jobs tell. Args: how many lines are kept of a job; for each note: id, lease (a double), progress or nothing, number
-- of lines, each line (its instant, a double, and the text). Returns: the positions of those whose lease is not live.
-- Each line is kept with its number before it, a double.
call('INCRBY', P .. 'seq', 0) -- refused when memory is full
local kept, at, n, refused, told = tonumber(ARGV[1]), 2, 0, {}, {}
while at <= #ARGV do
  local id, lines = ARGV[at], tonumber(ARGV[at + 3])
  local v = call('HGET', P .. 'job', id)
  n = n + 1
  if not v or byte(v, 1) ~= R or sub(v, 76, 83) ~= ARGV[at + 1] then
    refused[#refused + 1] = n
  else
    if ARGV[at + 2] ~= '' then
      call('HSET', P .. 'progress', id, ARGV[at + 2])
    end
    if lines > 0 then
      local log = P .. 'log:' .. id
      local last = call('LINDEX', log, -1)
      local number = last and unpack_at('<d', last) or 0
      for i = 1, lines do
        call('RPUSH', log, pack('<d', number + i) .. ARGV[at + 3 + i])
      end
      call('LTRIM', log, -kept, -1)
    end
  end
  at = at + 4 + lines
end
return refused
