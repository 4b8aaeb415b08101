-- uses: clock
-- Makes a class of workers known, or forgets it.
-- Args: class; what it takes: the table's token, a semicolon, and the numbers of its streams between commas; or "*" for all; or
--   nothing, to forget it.
call('DEL', P .. 'nothing')
if ARGV[2] == '' then
  call('HDEL', P .. 'class', ARGV[1])
  call('ZREM', P .. 'classes', ARGV[1])
  return call('DEL', P .. 'bell:' .. ARGV[1])
end
call('HSET', P .. 'class', ARGV[1], ARGV[2])
return call('ZADD', P .. 'classes', now, ARGV[1])
