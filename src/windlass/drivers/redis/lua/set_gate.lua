-- uses: clock value | count place ring_all body gates(gates)
-- Makes or changes a gate. Args: key, its row packed, 1 if it is pinned, 1 if it is of a whole queue or task, 1 if it is a limit of such.
-- What runs already has passed a new limit; all that runs is read, once.
call('DEL', P .. 'nothing')
local key = ARGV[1]
local g = gates().gate_of(key)
if g and g.pinned and ARGV[3] == '0' then
  return 0
end
call('HSET', P .. 'gate', key, g and sub(ARGV[2], 1, 32) .. pack('<d', g.arrival) .. sub(ARGV[2], 41) or ARGV[2])
if not g and ARGV[4] == '1' then call('HINCRBY', KEYS[1], 'wide', 1) end

-- Notes those of a set of running jobs that the gate concerns.
local function pass(held_)
  local ids = call('SMEMBERS', held_)
  local values = values_of(ids)
  for n = 1, #ids do
    if values[n] and byte(values[n], 1) == R then
      local name = named(stream_of(values[n]))
      if key == 'limit:queue:' .. name[2] or key == 'limit:task:' .. name[3] then
        list(holding, P .. 'used:' .. key)[#list(holding, P .. 'used:' .. key) + 1] = ids[n]
      end
    end
  end
end

if not g and ARGV[5] == '1' then
  pass(P .. 'hand')
  for _, worker in ipairs(call('SMEMBERS', P .. 'holders')) do pass(P .. 'held:' .. worker) end
  write_places()
end
if call('EXISTS', P .. 'blocked:' .. key) == 1 then gates().look(key, now) end
gates().write_gates()
return ring_all()
