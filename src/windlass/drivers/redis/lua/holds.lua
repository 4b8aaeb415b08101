-- Unique keys: a field of "hold" for each that a job has, the job's id. A comma and an instant behind it: the job has left the
-- statuses in which it has the key, which is held until then all the same. The fields that are met are kept here until they are
-- written, together.
local BITS = {s = 1, p = 2, r = 4, t = 8, c = 16, d = 32, x = 64}
local held, touched = {}, {}

local function read_hold(text)
  local id, till = string.match(text or '', '^(%d+),?(.*)$')
  return id and {id = id, till = tonumber(till)} or false
end

-- Reads many at once.
local function load_holds(keys)
  for start = 1, #keys, 1000 do
    local last = min(start + 999, #keys)
    local found = call('HMGET', P .. 'hold', unpack(keys, start, last))
    for n = start, last do held[keys[n]] = read_hold(found[n - start + 1]) end
  end
end

local function hold_of(key)
  if held[key] == nil then held[key] = read_hold(call('HGET', P .. 'hold', key)) end
  return held[key]
end

-- Returns the id of the job that has a key now, if it is another one than *mine* and there is such a job.
local function holder_of(key, mine)
  local found = hold_of(key)
  if not found or found.id == mine or found.till and found.till <= now then
    return nil
  end
  found.sure = found.sure or call('HEXISTS', P .. 'job', found.id) == 1
  return found.sure and found.id or nil
end

-- Statuses are letters here, those of long values; nil before the first and after the last.
local function has(hold, status)
  return status and bit.band(hold[2], BITS[status]) ~= 0
end

-- Returns the id of the job that keeps another one from moving, if one does.
local function rival_of(id, flow, before, after)
  for _, hold in ipairs(flow[1]) do
    local rival = has(hold, after) and not has(hold, before) and holder_of(hold[1], id)
    if rival then
      return rival
    end
  end
end

-- Takes and gives up keys as a job moves.
local function pass_keys(id, created_at, flow, before, after)
  for _, hold in ipairs(flow[1]) do
    local key, till = hold[1], created_at + hold[3]
    if has(hold, after) then
      if not has(hold, before) then
        held[key], touched[key] = {id = id, sure = true}, true
      end
    elseif before then
      local mine = hold_of(key)
      if mine and mine.id == id then
        if not after or till <= now then
          held[key], touched[key] = false, true
        elseif not mine.till then
          held[key], touched[key] = {id = id, till = till}, true
        end
      end
    end
  end
end

-- Takes a key that a job should have, if nobody has it.
local function take_free(id, hold, status)
  if not has(hold, status) or hold_of(hold[1]) then
    return false
  end
  held[hold[1]], touched[hold[1]] = {id = id, sure = true}, true
  return true
end

-- Takes a key from whoever has it.
local function drop_hold(key)
  held[key], touched[key] = false, true
end

local function write_holds()
  local set_, gone = {}, {}
  for key in pairs(touched) do
    local found = held[key]
    if found then
      set_[#set_ + 1] = key
      set_[#set_ + 1] = found.id .. (found.till and ',' .. string.format('%.17g', found.till) or '')
    else
      gone[#gone + 1] = key
    end
  end
  many('HSET', P .. 'hold', set_)
  many('HDEL', P .. 'hold', gone)
  touched = {}
end

made.load_holds, made.read_hold, made.holder_of, made.rival_of, made.has = load_holds, read_hold, holder_of, rival_of, has
made.pass_keys, made.take_free, made.drop_hold, made.write_holds = pass_keys, take_free, drop_hold, write_holds
