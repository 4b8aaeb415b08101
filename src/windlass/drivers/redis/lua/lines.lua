-- Reads a job's log. Args: id, the number of the last line that is known. Returns: the lines after it.
local log = string.sub(KEYS[1], 1, -5) .. 'log:' .. ARGV[1]
local first = redis.call('LINDEX', log, 0)
if not first then
  return {}
end
return redis.call('LRANGE', log, math.max(0, tonumber(ARGV[2]) - struct.unpack('<d', first) + 1), -1)
