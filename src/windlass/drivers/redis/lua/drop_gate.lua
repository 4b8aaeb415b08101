-- uses: clock value | count place ring_all body gates(gates)
-- Forgets what was set of a gate. Args: key, 1 if it is of a whole queue or task. Returns: 0 if there is none.
call('DEL', P .. 'nothing')
local key = ARGV[1]
local g = gates().gate_of(key)
if not g then
  return 0
end
if ARGV[2] == '1' then
  call('HDEL', P .. 'gate', key)
  call('DEL', P .. 'used:' .. key)
  if call('HINCRBY', KEYS[1], 'wide', -1) <= 0 then call('HDEL', KEYS[1], 'wide') end
  gates().known[key] = false
else
  g.pinned, g.dirty = false, true
  gates().left[key] = true
  gates().reopen()
end
gates().write_gates()
ring_all()
return 1
