-- uses: clock
-- Writes a heartbeat. Args: worker, lost_after, status (r running, g stopping), bell, card (JSON).
-- Returns: 0 if the worker was declared lost or has stopped.
call('DEL', P .. 'nothing')
local card = call('HGET', P .. 'worker', ARGV[1])
local status = card and string.sub(card, 17, 17)
if status == 'l' or status == 'e' then
  return 0
end
call('HSET', P .. 'worker', ARGV[1],
  struct.pack('<dd', now, tonumber(ARGV[2])) .. ARGV[3] .. string.char(#ARGV[4]) .. ARGV[4] .. ARGV[5])
call('ZADD', P .. 'alive', now + tonumber(ARGV[2]), ARGV[1])
return 1
