-- uses: clock
-- Housekeeping. Args: seconds for which ended workers are kept, and classes that nobody uses.
call('DEL', P .. 'nothing')
local cards = call('HGETALL', P .. 'worker')
for n = 1, #cards, 2 do
  local worker, card = cards[n], cards[n + 1]
  local status, beat = string.sub(card, 17, 17), struct.unpack('<d', card)
  if (status == 'e' or status == 'l') and beat < now - tonumber(ARGV[1]) and call('EXISTS', P .. 'held:' .. worker) == 0 then
    call('HDEL', P .. 'worker', worker)
    call('DEL', P .. 'mail:' .. worker)
  end
end
for _, class in ipairs(call('ZRANGEBYSCORE', P .. 'classes', '-inf', string.format('%.17g', now - tonumber(ARGV[2])))) do
  call('HDEL', P .. 'class', class)
  call('HDEL', P .. 'part', class)
  call('DEL', P .. 'bell:' .. class)
end
call('ZREMRANGEBYSCORE', P .. 'classes', '-inf', string.format('%.17g', now - tonumber(ARGV[2])))
return call('ZREMRANGEBYSCORE', P .. 'when', '-inf', math.floor(now / 60) - 144000) -- 100 days of minutes
