-- uses: minute
-- Stores one new job that is in no index but its stream's, and due at once: two thirds of the time of the script for many.
-- Args: the table's token, the number of the stream, its priority, the body.
-- Returns: now (a double) and the token, the id; nothing if the token is another one: nothing was done.
local call = redis.call
local meta = call('HMGET', KEYS[1], 'shift', 'table', 'minute')
if meta[2] ~= ARGV[1] then
  return false
end
local P, s = string.sub(KEYS[1], 1, -5), ARGV[2]
local time = call('TIME')
local now = (time[1] * 1000000 + time[2]) / 1000000 + (meta[1] and tonumber(meta[1]) or 0)
local id = call('INCR', P .. 'seq') -- the first write: refused when memory is full
local created = struct.pack('<d', now)
local line = P .. 'ready:' .. s
call('HSET', P .. 'job', id, 'n' .. struct.pack('<I4', tonumber(s)) .. created .. ARGV[4])
if call('EXISTS', line) == 0 then
  call('ZADD', P .. 'avail', -tonumber(ARGV[3]), s)
end
call('ZADD', line, id, id)
local minute = string.format('%d', math.floor(now / 60))
if meta[3] ~= minute then
  first_of_minute(minute, meta[3], id)
end
local classes = call('HGETALL', P .. 'class') -- as ring does
for i = 1, #classes, 2 do
  local takes = classes[i + 1]
  if string.find(takes, ',' .. s .. ',', 1, true) or takes == '*' or string.sub(takes, 1, #meta[2]) ~= meta[2] then
    local bell = P .. 'bell:' .. classes[i]
    if call('EXISTS', bell) == 0 then
      call('RPUSH', bell, 1)
      call('EXPIRE', bell, 3600)
    end
  end
end
return {created .. meta[2], id}
