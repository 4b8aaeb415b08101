-- uses: clock value
-- Finds since when the first of every line has waited, those of keys that take turns among them. Args: numbers of streams. Returns: the values of the first ones.
local ids = {}
for _, s in ipairs(ARGV) do
  for _, line in ipairs({'ready:', 'again:'}) do
    local first = call('ZRANGE', P .. line .. s, 0, 0)[1]
    if first then ids[#ids + 1] = first end
  end
  for _, key in ipairs(call('ZRANGE', P .. 'turn:' .. s, 0, 999)) do
    local first = call('ZRANGE', P .. 'line:' .. s .. ':' .. key, 0, 0)[1]
    if first then ids[#ids + 1] = first end
  end
end
local found = values_of(ids)
table.insert(found, 1, pack('<d', now) .. token)
return found
