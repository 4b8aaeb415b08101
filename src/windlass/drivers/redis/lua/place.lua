-- The indexes, written together at the end: a command with many members costs a fraction of many commands.
local leaving, joining, setting, deleting = {}, {}, {}, {}
-- What workers hold is in sets: sorted sets of a hundred members are searched from one end to the other.
local releasing, holding = {}, {}
-- Streams that got a job, and lost one, since the last writing; and all that got one.
local filled, drained, woken = {}, {}, {}

-- Returns the list of *of* that belongs to *key*, to append members to.
local function list(of, key)
  local found = of[key]
  if not found then
    found = {}
    of[key] = found
  end
  return found
end

local function leave(key, id)
  local ids = list(leaving, key)
  ids[#ids + 1] = id
end

local function join(key, score, id)
  local pairs_ = list(joining, key)
  local n = #pairs_
  pairs_[n + 1], pairs_[n + 2] = score, id
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
  for key, ids in pairs(releasing) do
    many('SREM', key, ids)
  end
  many('HSET', P .. 'job', setting)
  many('HDEL', P .. 'job', deleting)
  for key, pairs_ in pairs(joining) do
    many('ZADD', key, pairs_)
  end
  for key, ids in pairs(holding) do
    many('SADD', key, ids)
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
  releasing, holding = {}, {}
end
