-- uses: clock value | count place ring body keys(holds) batches(batches) gates(gates) turns(turns) fault signal move
-- Looks at a slice of the jobs, and puts those back that are missing where their value says they are.
-- Args: how many at a time. Returns: 1 when all have been looked at, how many were put back.
call('DEL', P .. 'nothing')
local cursor = call('HGET', KEYS[1], 'cursor') or '0'
local slice = call('HSCAN', P .. 'job', cursor, 'COUNT', ARGV[1])
local mended = 0

local function missing(command, key, member)
  local found = call(command, key, member)
  return not found or found == 0
end

-- Returns whether a job that may wait before a gate is not there.
local function is_astray(id, s, seq, flow)
  if not call('ZSCORE', P .. 'wait:' .. s .. ':b', id) then
    return true
  end
  if flow.fair and call('ZSCORE', turns().line_of(s, flow.fair), id) then
    turns().give_turn(s, flow.fair, 'NX') -- perhaps nobody would call it
    filled[s] = true
    return false
  end
  for _, spec in ipairs(flow[2]) do
    if call('ZSCORE', P .. 'blocked:' .. spec[1], gates().waiter(id, s, seq)) then
      gates().look(spec[1], now) -- perhaps nobody would
      return false
    end
  end
  gates().unblock(id, s, seq, flow)
  if seq == tonumber(id) then add(s, 'E', -1) end
  return true
end

-- Returns whether a job did not have a key or a slot that it should have.
local function lacks(id, v, s, flow)
  local lost, status = false, letter_of(v)
  for _, hold in ipairs(flow[1]) do
    if keys().take_free(id, hold, status) then lost = true end
  end
  for _, spec in ipairs(status == 'r' and flow[2] or {}) do
    if spec[3] == 0 and missing('SISMEMBER', P .. 'used:' .. spec[1], id) then
      gates().enter(gates().brought(spec), id)
      lost = true
    end
  end
  return lost
end

-- Returns whether a job was not where it should be.
local function mend(id, v, flow)
  local s, letter = stream_of(v), char(byte(v, 1))
  if letter == 'r' then
    local by_hand = sub(v, 54, 61) ~= Z8
    local worker = sub(v, 85, 84 + byte(v, 84))
    local held = P .. (by_hand and 'hand' or 'held:' .. worker)
    local lost = missing('SISMEMBER', held, id)
    if by_hand and missing('ZSCORE', P .. 'deadline', id) then
      join(P .. 'deadline', unpack_at('<d', v, 54), id)
      lost = true
    end
    if lost then call('SADD', held, id) end
    if not by_hand and missing('SISMEMBER', P .. 'holders', worker) then
      call('SADD', P .. 'holders', worker)
      lost = true
    end
    return lost
  elseif letter == 'n' or letter == 'p' then
    local seq = letter == 'n' and tonumber(id) or unpack_at('<d', v, 68)
    local fresh = seq == tonumber(id)
    local absent = missing('ZSCORE', P .. (fresh and 'ready:' or 'again:') .. s, id)
    if absent and flow and not is_astray(id, s, seq, flow) then
      return false
    end
    local lost = absent or not fresh and missing('ZSCORE', P .. 'back:' .. s, id) or missing('ZSCORE', P .. 'avail', s)
    if lost then line_up(id, s, seq) end
    return lost
  elseif letter == 'm' or letter == 's' or letter == 't' then
    local wait = P .. 'wait:' .. s .. ':' .. (letter == 't' and 't' or 's')
    local lost = missing('ZSCORE', P .. 'timer', padded(id)) or missing('ZSCORE', wait, id)
    if lost then
      join(P .. 'timer', unpack_at('<d', v, letter == 'm' and 14 or 30), padded(id))
      join(wait, id, id)
    end
    return lost
  end
  local of, number, finished = s .. ':' .. letter, bucket_of(id), unpack_at('<d', v, 46)
  local first = call('ZSCORE', P .. 'age:' .. of, number)
  local lost = missing('SISMEMBER', bucket(of, number), id) or missing('ZSCORE', P .. 'done:' .. of, number)
    or not first or tonumber(first) > finished
  if lost then file(id, of, finished) end
  local fault = letter == 'd' and fault_in(error_of(v))
  if fault and missing('ZSCORE', P .. 'fault:' .. fault, id) then
    blame(id, fault)
    lost = true
  end
  return lost
end

for n = 1, #slice[2], 2 do
  local id, v = slice[2][n], slice[2][n + 1]
  local flow = flow_in(v, body_of(v))
  local lost = mend(id, v, flow)
  if flow and lacks(id, v, stream_of(v), flow) then lost = true end
  if lost then mended = mended + 1 end
end
write_places()
write_rest()
call('HSET', KEYS[1], 'cursor', slice[1])
if mended > 0 then
  call('HINCRBY', KEYS[1], 'mended', mended)
  ring(woken)
end
return {slice[1] == '0' and 1 or 0, mended}
