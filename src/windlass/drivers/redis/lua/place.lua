-- The indexes, written together at the end: a command with many members costs a fraction of many commands.
local leaving, joining, setting, deleting = {}, {}, {}, {}
-- What workers hold is in sets: sorted sets of a hundred members are searched from one end to the other.
local releasing, holding = {}, {}
-- Streams that got a job, and lost one, since the last writing; and all that got one.
local filled, drained, woken = {}, {}, {}

local NONE, names_of = {}, {}

-- Returns priority, queue and task of a stream.
local function named(s)
  local name = names_of[s]
  if not name then
    name = cjson.decode(call('HGET', P .. 'streams', s) or '[0,"",""]')
    names_of[s] = name
  end
  return name
end

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

-- Finished jobs are in sets, one for each stream, status and 512 ids that follow each other: Redis packs so many numbers into
-- one array, 8 bytes each at most. "done" has the numbers of these buckets in their order, "age" when the first of each ended,
-- or an earlier instant.
local BUCKET = 512
local filing, thinned = {}, {}

local function bucket_of(id)
  return floor(id / BUCKET)
end

-- Returns the key of a bucket. of: stream and status, as in "7:c".
local function bucket(of, number)
  return P .. 'done:' .. of .. ':' .. number
end

local function file(id, of, finished)
  local number = bucket_of(id)
  local ids, firsts = list(holding, bucket(of, number)), list(filing, of)
  ids[#ids + 1] = id
  firsts[number] = min(firsts[number] or finished, finished)
end

local function unfile(id, of)
  local number = bucket_of(id)
  local ids = list(releasing, bucket(of, number))
  ids[#ids + 1] = id
  list(thinned, of)[number] = true
end

local function many(command, key, members)
  for start = 1, #members, 1000 do
    call(command, key, unpack(members, start, min(start + 999, #members)))
  end
end

local function write_files()
  for of, firsts in pairs(filing) do
    local order, ages = {}, {}
    for number, finished in pairs(firsts) do
      local n = #order
      order[n + 1], order[n + 2] = number, number
      ages[n + 1], ages[n + 2] = finished, number
    end
    many('ZADD', P .. 'done:' .. of, order)
    for start = 1, #ages, 1000 do
      call('ZADD', P .. 'age:' .. of, 'LT', unpack(ages, start, min(start + 999, #ages)))
    end
  end
  for of, numbers in pairs(thinned) do
    for number in pairs(numbers) do
      if call('EXISTS', bucket(of, number)) == 0 then
        call('ZREM', P .. 'done:' .. of, number)
        call('ZREM', P .. 'age:' .. of, number)
      end
    end
  end
  filing, thinned = {}, {}
end

-- Members of equal score stand in the order of their bytes: padded, in that of the numbers.
local function padded(id)
  return rep('0', 15 - #id) .. id
end

-- Puts a job where it stood, or will stand: "ready" is in the order of ids.
local function line_up(id, s, seq)
  if seq == tonumber(id) then
    join(P .. 'ready:' .. s, id, id)
  else
    join(P .. 'again:' .. s, seq, id)
    join(P .. 'back:' .. s, id, id)
  end
  filled[s] = true
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
  many('HDEL', P .. 'progress', deleting)
  for key, pairs_ in pairs(joining) do
    many('ZADD', key, pairs_)
  end
  for key, ids in pairs(holding) do
    many('SADD', key, ids)
  end
  write_files()
  for stream in pairs(drained) do
    if not filled[stream] and call('EXISTS', P .. 'ready:' .. stream, P .. 'again:' .. stream, P .. 'turn:' .. stream) == 0 then
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
