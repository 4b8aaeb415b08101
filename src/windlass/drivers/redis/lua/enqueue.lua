-- uses: clock value count place ring minute body
-- Stores new jobs.
-- Args: number of streams, the name of each; then for each job its body and how it is placed: empty for the first stream and
--   at once, else the position of its stream (2 bytes), 0 or 1 for a delay or 2 for an instant (1 byte), seconds (a double).
-- Returns: now (a double) and the table's token, the first id, the number of each stream.
local names, n_streams = {}, tonumber(ARGV[1])
local n_jobs = (#ARGV - 1 - n_streams) / 2
local last = call('INCRBY', P .. 'seq', n_jobs) -- the first write: refused when memory is full
for n = 1, n_streams do names[n] = ARGV[1 + n] end
local streams = call('HMGET', P .. 'stream', unpack(names))
for n = 1, n_streams do
  if not streams[n] then
    streams[n] = tostring(call('HINCRBY', KEYS[1], 'streams', 1))
    call('HSET', P .. 'stream', names[n], streams[n])
    call('HSET', P .. 'streams', streams[n], names[n])
    token = string.format('%.0f', max(micros, (tonumber(token) or 0) + 1))
    call('HSET', KEYS[1], 'table', token)
  end
end

-- Puts a job into the indexes that its body names.
local function index(id, body)
  local keys, own = named_by(body)
  for _, key in ipairs(keys) do join(key, id, id) end
  if own then
    call('HSET', P .. 'key', own, (call('HGET', P .. 'key', own) or ',') .. id .. ',')
  end
end

local created = pack('<d', now)
local starts, ready, news = {}, {}, {}
for n = 1, n_streams do
  starts[n] = pack('<I4', tonumber(streams[n])) .. created
  ready[n], news[n] = P .. 'ready:' .. streams[n], 'n' .. starts[n]
end
local first_due = call('ZRANGE', P .. 'timer', 0, 0, 'WITHSCORES')[2]
local sooner = false
local at = 2 + n_streams
for i = 1, n_jobs do
  local id = tostring(last - n_jobs + i)
  local body, how, n = ARGV[at], ARGV[at + 1], 1
  at = at + 2
  local due = now
  if how ~= '' then
    local kind, seconds
    n, kind, seconds = unpack_at('<I2Bd', how)
    if kind == 1 then due = now + seconds elseif kind == 2 then due = seconds end
  end
  local s = streams[n]
  if due > now then
    set(id, 'm' .. starts[n] .. pack('<d', due) .. body)
    join(P .. 'timer', due, padded(id))
    join(P .. 'wait:' .. s .. ':s', id, id)
    add(s, 's', 1)
    add(s, 'E', 1)
    sooner = sooner or not first_due or due < tonumber(first_due)
  else
    set(id, news[n] .. body)
    join(ready[n], id, id)
    filled[s] = true
  end
  if byte(body, 1) >= 4 then index(id, body) end
end
write_places()
write_counts()
local minute = tostring(floor(now / 60))
if meta[4] ~= minute then
  first_of_minute(minute, meta[4], last - n_jobs + 1)
end
if sooner then ring() elseif next(woken) then ring(woken) end
return {created .. token, last - n_jobs + 1, streams}
