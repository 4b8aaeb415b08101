-- uses: clock ring_all
-- Moves the clock, for tests. Args: seconds.
call('HINCRBYFLOAT', KEYS[1], 'shift', ARGV[1])
return ring_all()
