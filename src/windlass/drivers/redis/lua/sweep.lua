-- uses: clock value | count place body keys(holds) batches(batches) gates(gates) fault signal move
-- Looks at a slice of the unique keys and one of the gates, and takes out what no job stands behind.
-- Args: how many at a time. Returns: 1 when all have been looked at, how many were taken out.
call('DEL', P .. 'nothing')
local cursors = call('HMGET', KEYS[1], 'hold_cursor', 'gate_cursor')
local taken_out = 0

-- Whether a job, as it is, may have a key.
local function may_have(v, key, till)
  local flow = v and flow_in(v, body_of(v))
  for _, hold in ipairs(flow and flow[1] or {}) do
    if hold[1] == key then
      return till or keys().has(hold, letter_of(v))
    end
  end
  return false
end

local function sweep_holds(pairs_)
  local ids, found = {}, {}
  for n = 1, #pairs_ / 2 do
    found[n] = keys().read_hold(pairs_[2 * n]) or {id = ''}
    ids[n] = found[n].id
  end
  local values = values_of(ids)
  for n = 1, #ids do
    if not may_have(values[n], pairs_[2 * n - 1], found[n].till) then
      keys().drop_hold(pairs_[2 * n - 1])
      taken_out = taken_out + 1
    end
  end
end

-- Some of those who are said to run behind a limit, for it may have very many.
local function sweep_slots(key)
  local ids = call('SRANDMEMBER', P .. 'used:' .. key, 100)
  local values = values_of(ids)
  for n = 1, #ids do
    if not values[n] or byte(values[n], 1) ~= R then
      call('SREM', P .. 'used:' .. key, ids[n])
      gates().left[key] = true
      taken_out = taken_out + 1
    end
  end
end

local holds = call('HSCAN', P .. 'hold', cursors[1] or '0', 'COUNT', ARGV[1])
sweep_holds(holds[2])
local rows = call('HSCAN', P .. 'gate', cursors[2] or '0', 'COUNT', math.ceil(ARGV[1] / 10))
for n = 1, #rows[2], 2 do
  local key = rows[2][n]
  local g = gates().gate_of(key)
  if g.per == 0 then
    sweep_slots(key)
  end
  if call('EXISTS', P .. 'blocked:' .. key) == 1 then
    gates().look(key, now)
  elseif g.per > 0 and g.arrival <= now and not g.pinned and not gates().is_wide(key) then
    call('HDEL', P .. 'gate', key) -- as good as new
    gates().known[key] = false
  end
end
write_rest()
call('HSET', KEYS[1], 'hold_cursor', holds[1], 'gate_cursor', rows[1])
return {holds[1] == '0' and rows[1] == '0' and 1 or 0, taken_out}
