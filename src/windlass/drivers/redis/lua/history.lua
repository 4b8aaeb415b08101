-- uses: clock
-- Reads one job and its ended attempts. Args: id. Returns: now and the token, the value or nil, the attempts.
return {struct.pack('<d', now) .. token, call('HGET', P .. 'job', ARGV[1]), call('LRANGE', P .. 'past:' .. ARGV[1], 0, -1)}
