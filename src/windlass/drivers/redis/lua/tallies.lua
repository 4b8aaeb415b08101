-- uses: clock
-- Reads the counters. Returns: the streams with their names, the counters, and the number of a stream with how many pend there.
local streams, pending = call('HGETALL', P .. 'streams'), {}
for n = 1, #streams, 2 do
  pending[n] = streams[n]
  pending[n + 1] = call('ZCARD', P .. 'ready:' .. streams[n]) + call('ZCARD', P .. 'again:' .. streams[n])
end
return {streams, call('HGETALL', P .. 'count'), pending}
