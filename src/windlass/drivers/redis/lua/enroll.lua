-- uses: clock
-- Makes classes of workers known, or forgets one.
-- Args: for each "class", or "part" for one that is never rung; its name; what it takes: the table's token, a semicolon, and the
--   numbers of its streams between commas; or "*" for all; or nothing, to forget it.
call('DEL', P .. 'nothing')
for n = 1, #ARGV, 3 do
  local hash, name, takes = ARGV[n], ARGV[n + 1], ARGV[n + 2]
  if takes == '' then
    call('HDEL', P .. hash, name)
    call('ZREM', P .. 'classes', name)
    call('DEL', P .. 'bell:' .. name)
  else
    call('HSET', P .. hash, name, takes)
    call('ZADD', P .. 'classes', now, name)
  end
end
