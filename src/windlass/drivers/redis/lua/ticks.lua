-- Reads the history of a schedule. Args: name, how many rows, below which number ('' = the newest). Returns: the rows, oldest first.
local ticks = string.sub(KEYS[1], 1, -5) .. 'ticks:' .. ARGV[1]
local newest = redis.call('LINDEX', ticks, -1)
if not newest then
  return {}
end
local beyond = ARGV[3] == '' and 0 or math.max(0, struct.unpack('<d', newest) - tonumber(ARGV[3]) + 1)
return redis.call('LRANGE', ticks, -beyond - tonumber(ARGV[2]), -beyond - 1)
