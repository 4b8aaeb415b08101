-- uses: clock
-- Adds to sums. Args: name and number, many times.
call('DEL', P .. 'nothing')
for n = 1, #ARGV, 2 do call('HINCRBY', P .. 'sum', ARGV[n], ARGV[n + 1]) end
