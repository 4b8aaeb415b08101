-- uses: clock
-- Reads the counters. Returns: the streams with their names, the counters, and for each stream how many stand in its line "ready", and
-- how many others pend.
local streams, ready, others = call('HGETALL', P .. 'streams'), {}, {}
for n = 1, #streams, 2 do
  local s = streams[n]
  ready[(n + 1) / 2] = call('ZCARD', P .. 'ready:' .. s)
  others[(n + 1) / 2] = call('ZCARD', P .. 'again:' .. s) + call('ZCARD', P .. 'wait:' .. s .. ':b')
end
return {streams, call('HGETALL', P .. 'count'), ready, others}
