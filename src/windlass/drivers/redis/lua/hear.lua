-- uses: clock
-- Says that somebody listens to what is published, or listens no more. Args: name, for how many seconds (0 = no more).
-- By the server's own clock, which tests do not shift.
call('DEL', P .. 'nothing') -- see exchange
local seconds = micros / 1000000
if ARGV[2] == '0' then
  call('ZREM', P .. 'ears', ARGV[1])
else
  call('ZADD', P .. 'ears', seconds + tonumber(ARGV[2]), ARGV[1])
end
call('ZREMRANGEBYSCORE', P .. 'ears', '-inf', string.format('%.17g', seconds))
local last = call('ZREVRANGE', P .. 'ears', 0, 0, 'WITHSCORES')[2]
if last then
  return call('HSET', KEYS[1], 'ears', last)
end
return call('HDEL', KEYS[1], 'ears')
