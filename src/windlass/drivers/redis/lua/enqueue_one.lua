-- uses: minute
-- Stores one new job that is in no index but its stream's, and due at once: a third of the time of the script for many.
-- Args: the table's token, the number of the stream, its priority, the body, unique keys that it takes.
-- Returns: now (a double) and the token, the id; if a job has one of the keys, 0 in place of the id, its id and its value. Where nothing
--   was done: nothing if the token is another one, 0 if somebody must look closer at a key.
local call = redis.call
local meta = call('HMGET', KEYS[1], 'shift', 'table', 'minute')
if meta[2] ~= ARGV[1] then
  return false
end
local P, s = string.sub(KEYS[1], 1, -5), ARGV[2]
local time = call('TIME')
local now = (time[1] * 1000000 + time[2]) / 1000000 + (meta[1] and tonumber(meta[1]) or 0)
local created = struct.pack('<d', now)
for _, held in ipairs(#ARGV > 4 and call('HMGET', P .. 'hold', unpack(ARGV, 5)) or {}) do
  local v = held and call('HGET', P .. 'job', held) -- there is none where the key is held until an instant
  if v then
    return {created .. meta[2], 0, held, v}
  elseif held then
    return 0
  end
end
local id = call('INCR', P .. 'seq') -- the first write: refused when memory is full
for n = 5, #ARGV do call('HSET', P .. 'hold', ARGV[n], id) end
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
