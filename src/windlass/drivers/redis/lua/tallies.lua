-- uses: clock
-- Reads the counters. Returns: the streams with their names, the counters, and for each stream how many stand in its lines "ready"
-- and "again".
local streams, ready, again = call('HGETALL', P .. 'streams'), {}, {}
for n = 1, #streams, 2 do
  ready[(n + 1) / 2] = call('ZCARD', P .. 'ready:' .. streams[n])
  again[(n + 1) / 2] = call('ZCARD', P .. 'again:' .. streams[n])
end
return {streams, call('HGETALL', P .. 'count'), ready, again}
