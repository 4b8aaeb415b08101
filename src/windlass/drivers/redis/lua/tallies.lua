-- uses: clock
-- Reads the counters. Returns: the streams with their names, and the counters.
return {call('HGETALL', P .. 'streams'), call('HGETALL', P .. 'count')}
