-- uses: clock ring_all
-- Ends workers. Args: the new status (l lost, e stopped), 1 to end all that are overdue, names.
-- Returns: those that lived and do no more.
call('DEL', P .. 'nothing')
local named = {}
for n = 3, #ARGV do named[n - 2] = ARGV[n] end
if ARGV[2] == '1' then
  for _, worker in ipairs(call('ZRANGEBYSCORE', P .. 'alive', '-inf', '(' .. string.format('%.17g', now))) do
    named[#named + 1] = worker
  end
end
local ended = {}
for _, worker in ipairs(named) do
  if call('ZREM', P .. 'alive', worker) == 1 then
    local card = call('HGET', P .. 'worker', worker)
    call('HSET', P .. 'worker', worker, string.sub(card, 1, 16) .. ARGV[1] .. string.sub(card, 18))
    ended[#ended + 1] = worker
  end
end
if #ended > 0 and ARGV[1] == 'e' then ring_all() end
return ended
