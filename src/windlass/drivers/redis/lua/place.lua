-- The indexes, written together at the end: a command with many members costs a fraction of many commands.
local leaving, joining, setting, deleting = {}, {}, {}, {}
-- Streams that got a job, and lost one, since the last writing; and all that got one.
local filled, drained, woken = {}, {}, {}

local function leave(key, id)
  local of = leaving[key]
  if not of then
    of = {n = 0}
    leaving[key] = of
  end
  of.n = of.n + 1
  of[of.n] = id
end

local function join(key, score, id)
  local of = joining[key]
  if not of then
    of = {n = 0}
    joining[key] = of
  end
  local n = of.n
  of[n + 1], of[n + 2] = score, id
  of.n = n + 2
end

local function set(id, v)
  local n = #setting
  setting[n + 1], setting[n + 2] = id, v
end

local function many(command, key, members)
  for start = 1, #members, 1000 do
    call(command, key, unpack(members, start, min(start + 999, #members)))
  end
end

-- Members of equal score stand in the order of their bytes: padded, in that of the numbers.
local function padded(id)
  return rep('0', 15 - #id) .. id
end

local function write_places()
  for key, ids in pairs(leaving) do
    many('ZREM', key, ids)
  end
  many('HSET', P .. 'job', setting)
  many('HDEL', P .. 'job', deleting)
  for key, pairs_ in pairs(joining) do
    many('ZADD', key, pairs_)
  end
  for stream in pairs(drained) do
    if not filled[stream] and call('EXISTS', P .. 'ready:' .. stream, P .. 'again:' .. stream) == 0 then
      call('ZREM', P .. 'avail', stream)
    end
  end
  for stream in pairs(filled) do
    local name = call('HGET', P .. 'streams', stream)
    call('ZADD', P .. 'avail', name and -tonumber(string.match(name, '^%[(%-?%d+)')) or 0, stream)
    woken[stream] = true
  end
  leaving, joining, setting, deleting, filled, drained = {}, {}, {}, {}, {}, {}
end
