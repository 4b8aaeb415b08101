-- Limits and rates: a field of "gate" for each, packed. A set "used:KEY" has who runs behind a limit; "blocked:KEY" who waits before a
-- gate, out of the lines, in their order. "look" says when somebody may be let back, and a field of meta when the first such look is.
-- Gates of a whole queue or task shut their streams; a field of meta says whether there are any.
local GATE, SLACK, AGAIN, SOON, BACK = '<dddddBB', 1e-6, 1.0, 0.001, 1000
local known, wides, left_gates, looks = {}, {}, {}, {}
local looks_changed = false

-- Returns a gate, false if it is not known.
local function gate_of(key)
  local g = known[key]
  if g == nil then
    local row = call('HGET', P .. 'gate', key)
    g = false
    if row then
      local most, per, burst, weight, arrival, pinned, starved = unpack_at(GATE, row)
      g = {key = key, most = most, per = per, burst = burst, weight = weight, arrival = arrival, pinned = pinned == 1,
        starved = starved == 1}
    end
    known[key] = g
  end
  return g
end

local function is_as(g, spec)
  return g.most == spec[2] and g.per == spec[3] and g.burst == spec[4] and g.weight == spec[5]
end

-- Returns a gate that a job brings ({key, most, per, burst, weight}), as the job says unless it is pinned.
local function brought(spec)
  local g = gate_of(spec[1])
  if not g then
    g = {key = spec[1], arrival = 0, pinned = false, starved = false}
    known[spec[1]] = g
  elseif g.pinned or is_as(g, spec) then
    return g
  end
  g.most, g.per, g.burst, g.weight, g.dirty = spec[2], spec[3], spec[4], spec[5], true
  return g
end

local function used(g)
  g.used = g.used or call('SCARD', P .. 'used:' .. g.key)
  return g.used
end

-- See limits.py for these.
local function cost(g) return g.weight * g.per / g.most end
local function free_at(g, arrival) return arrival + cost(g) - g.burst * g.per / g.most end

local function room(g)
  if g.per == 0 then
    return max(0, g.most - used(g))
  end
  return max(0, floor((now - free_at(g, max(g.arrival, now)) + SLACK) / cost(g) + 1))
end

-- Lets a job start.
local function enter(g, id)
  if g.per > 0 then
    g.arrival, g.dirty = max(g.arrival, now) + cost(g), true
  else
    g.used = used(g) + 1
    local ids = list(holding, P .. 'used:' .. g.key)
    ids[#ids + 1] = id
  end
end

-- Looks at a gate at an instant, or before.
local function look(key, at)
  local noted = looks[key]
  if noted == nil then noted = tonumber(call('ZSCORE', P .. 'look', key) or nil) end
  if not noted or at < noted then
    call('ZADD', P .. 'look', string.format('%.17g', at), key)
    noted, looks_changed = at, true
  end
  looks[key] = noted
end

local function is_wide(key)
  return string.find(key, '^limit:queue:') or string.find(key, '^limit:task:')
    or string.find(key, '^rate:queue:') or string.find(key, '^rate:task:')
end

-- Members of "blocked" stand in the order of their bytes: priority, place, and behind 21 bytes the id.
local function waiter(id, s, seq)
  return string.format('%05d%016.0f', 32768 - named(s)[1], seq) .. id
end

-- Puts a job aside that stands in no line any more.
local function block(id, s, seq, g)
  join(P .. 'blocked:' .. g.key, 0, waiter(id, s, seq))
  join(P .. 'wait:' .. s .. ':b', id, id)
  if seq == tonumber(id) then add(s, 'E', 1) end
  if g.per > 0 then look(g.key, max(now, free_at(g, g.arrival))) end
end

-- Lets a job through its own gates, or puts it aside before the first that is shut; then it is true.
local function is_held_back(id, s, seq, flow)
  local own = {}
  for n, spec in ipairs(flow[2]) do own[n] = brought(spec) end
  for _, g in ipairs(own) do
    if room(g) < 1 then
      block(id, s, seq, g)
      return true
    end
  end
  for _, g in ipairs(own) do enter(g, id) end
  return false
end

-- Takes a pending job out from before its gates, or out of the line of its key; returns false if it stands in its line.
local function unblock(id, s, seq, flow)
  if #flow[2] == 0 and not flow.fair or not call('ZSCORE', P .. 'wait:' .. s .. ':b', id) then
    return false
  end
  if flow.fair then leave(P .. 'line:' .. s .. ':' .. flow.fair, id) end
  leave(P .. 'wait:' .. s .. ':b', id)
  for _, spec in ipairs(flow[2]) do leave(P .. 'blocked:' .. spec[1], waiter(id, s, seq)) end
  return true
end

-- Returns the gates of a stream's queue and task.
local function wide_of(s)
  if not meta[5] then
    return NONE
  end
  local found = wides[s]
  if not found then
    found = {}
    wides[s] = found
    local _, queue, task = unpack(named(s))
    for _, key in ipairs({'limit:queue:' .. queue, 'rate:queue:' .. queue, 'limit:task:' .. task, 'rate:task:' .. task}) do
      local g = gate_of(key)
      if g then found[#found + 1] = g end
    end
  end
  return found
end

-- Notes that a stream is passed over because of a gate.
local function pass_over(g)
  g.dirty = g.dirty or not g.starved
  g.starved = true
  if g.per > 0 then look(g.key, max(now, free_at(g, g.arrival))) end
end

-- Counts how often lines were read: what gates have to spare is counted anew each time.
local reading = 0

local function read_again()
  reading = reading + 1
end

-- Whether a whole stream may start nothing; it is passed over then.
local function is_shut(s)
  for _, g in ipairs(wide_of(s)) do
    if room(g) < 1 then
      pass_over(g)
      return true
    end
  end
  return false
end

-- Whether the gates of a line's queue and task let one more of it start.
local function may_start(wide)
  for _, g in ipairs(wide) do
    if g.reading ~= reading then g.reading, g.spare = reading, room(g) end
    if g.spare < 1 then
      pass_over(g)
      return false
    end
  end
  for _, g in ipairs(wide) do g.spare = g.spare - 1 end
  return true
end

-- Gives back the slots of a job that does not run any more; after write_places, reopen.
local function give_back(id, s, flow)
  for _, spec in ipairs(flow and flow[2] or NONE) do
    if spec[3] == 0 then
      local ids = list(releasing, P .. 'used:' .. spec[1])
      ids[#ids + 1] = id
      left_gates[spec[1]] = true
    end
  end
  for _, g in ipairs(wide_of(s)) do
    if g.per == 0 then
      local ids = list(releasing, P .. 'used:' .. g.key)
      ids[#ids + 1] = id
      left_gates[g.key] = true
    end
  end
end

-- Looks at the gates that were left: now, if somebody waits there.
local function reopen()
  for key in pairs(left_gates) do
    if call('EXISTS', P .. 'blocked:' .. key) == 1 then look(key, now) end
  end
end

-- Lets back whoever there is room for, to where they stood before.
local function admit()
  if not looks_changed and not (meta[6] and tonumber(meta[6]) <= now) then
    return
  end
  local left = BACK
  for _, key in ipairs(call('ZRANGEBYSCORE', P .. 'look', '-inf', string.format('%.17g', now), 'LIMIT', 0, 100)) do
    if left == 0 then break end
    call('ZREM', P .. 'look', key)
    looks[key], looks_changed = nil, true
    local g, line = gate_of(key), P .. 'blocked:' .. key
    local waiting = call('ZCARD', line)
    if waiting > 0 then
      local free = g and room(g) or left -- of a gate that was lost each brings its own again
      local members = free > 0 and call('ZRANGE', line, 0, min(free, left) - 1) or {}
      if #members > 0 then call('ZREMRANGEBYRANK', line, 0, #members - 1) end
      left = left - #members
      local ids = {}
      for n = 1, #members do ids[n] = sub(members[n], 22) end
      local values = values_of(ids)
      for n = 1, #ids do
        local id, v = ids[n], values[n]
        local letter = v and byte(v, 1)
        if letter == N or letter == P_ then
          local s, seq = stream_of(v), tonumber(sub(members[n], 6, 21))
          leave(P .. 'wait:' .. s .. ':b', id)
          line_up(id, s, seq)
          if seq == tonumber(id) then add(s, 'E', -1) end
        end
      end
      if waiting > #members then
        if g and g.per > 0 then
          look(key, max(now + SOON, free_at(g, max(g.arrival, now) + free * cost(g))))
        elseif free > 0 then
          look(key, now + AGAIN)
        end
      end
    end
  end
end

-- Writes what has changed, and forgets limits that nobody runs behind or waits before. Returns gates of whole streams
-- that were passed over, and have room now.
local function write_gates()
  local rows, gone, open = {}, {}, {}
  for key in pairs(left_gates) do
    local g = gate_of(key)
    if g and g.starved and room(g) > 0 then
      g.starved, g.dirty = false, true
      open[#open + 1] = key
    elseif g and not g.pinned and not is_wide(key) and used(g) == 0 and call('EXISTS', P .. 'blocked:' .. key) == 0 then
      gone[#gone + 1] = key
      known[key] = false
    end
  end
  for key, g in pairs(known) do
    if g and g.dirty then
      rows[#rows + 1] = key
      rows[#rows + 1] = pack(GATE, g.most, g.per, g.burst, g.weight, g.arrival, g.pinned and 1 or 0, g.starved and 1 or 0)
    end
  end
  many('HSET', P .. 'gate', rows)
  many('HDEL', P .. 'gate', gone)
  if looks_changed then
    local first = call('ZRANGE', P .. 'look', 0, 0, 'WITHSCORES')[2]
    meta[6] = first or false
    if first then call('HSET', KEYS[1], 'look', first) else call('HDEL', KEYS[1], 'look') end
  end
  looks_changed = false
  return open
end

made.known, made.left, made.gate_of, made.room, made.enter, made.brought, made.is_as, made.look = known, left_gates, gate_of, room, enter, brought, is_as, look
made.waiter, made.block, made.unblock, made.is_held_back, made.is_wide = waiter, block, unblock, is_held_back, is_wide
made.wide_of, made.is_shut, made.may_start, made.read_again = wide_of, is_shut, may_start, read_again
made.give_back, made.reopen, made.admit, made.write_gates = give_back, reopen, admit, write_gates
