-- uses: clock value
-- Moves the deadline of a claim made by hand. Args: id, fence, seconds from now. Returns: 0 if the lease is not live.
call('DEL', P .. 'nothing')
local v = call('HGET', P .. 'job', ARGV[1])
if not v or byte(v, 1) ~= R or sub(v, 76, 75 + #ARGV[2]) ~= ARGV[2] then
  return 0
end
local deadline = now + tonumber(ARGV[3])
if sub(v, 54, 61) == Z8 then
  call('SREM', P .. 'held:' .. sub(v, 85, 84 + byte(v, 84)), ARGV[1])
  call('SADD', P .. 'hand', ARGV[1])
end
call('HSET', P .. 'job', ARGV[1], sub(v, 1, 53) .. pack('<d', deadline) .. sub(v, 62))
call('ZADD', P .. 'deadline', deadline, ARGV[1])
return 1
