-- uses: clock
-- Reads gates. Args: 0 and their keys, or 1 and how many at most. Returns: key, row, how many run behind it and wait before it, of each.
local rows = {}
if ARGV[1] == '1' then
  rows = call('HSCAN', P .. 'gate', '0', 'COUNT', ARGV[2])[2]
else
  for n = 2, #ARGV do
    rows[2 * n - 3], rows[2 * n - 2] = ARGV[n], call('HGET', P .. 'gate', ARGV[n])
  end
end
local found = {}
for n = 1, #rows, 2 do
  if rows[n + 1] then
    local m = #found
    found[m + 1], found[m + 2] = rows[n], rows[n + 1]
    found[m + 3], found[m + 4] = call('SCARD', P .. 'used:' .. rows[n]), call('ZCARD', P .. 'blocked:' .. rows[n])
  end
end
return found
