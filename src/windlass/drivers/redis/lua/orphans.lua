-- uses: clock value
-- Finds running jobs that nobody runs. Args: limit. Returns: now and the token, then id and value of each.
local limit = tonumber(ARGV[1])
local ids = call('ZRANGEBYSCORE', P .. 'deadline', '-inf', string.format('%.17g', now), 'LIMIT', 0, limit)
for _, worker in ipairs(call('SMEMBERS', P .. 'holders')) do
  if #ids >= limit then break end
  if not call('ZSCORE', P .. 'alive', worker) then
    for _, id in ipairs(call('SRANDMEMBER', P .. 'held:' .. worker, limit - #ids)) do ids[#ids + 1] = id end
  end
end
local found = {pack('<d', now) .. token}
local values = values_of(ids)
for n = 1, #ids do
  if values[n] and byte(values[n], 1) == R then
    found[#found + 1] = ids[n]
    found[#found + 1] = values[n]
  end
end
return found
