-- uses: clock
-- Reads the pulse. Args: the first second. Returns: fields (second, P or F, stream) and numbers.
local found = {}
for minute = math.floor(math.max(tonumber(ARGV[1]), now - 3660) / 60), math.floor(now / 60) do
  for _, part in ipairs(call('HGETALL', P .. 'pulse:' .. minute)) do found[#found + 1] = part end
end
return found
