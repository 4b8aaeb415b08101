-- Promoting and claiming.
local PROMOTE = 200

local function first_due()
  return tonumber(call('ZRANGE', P .. 'timer', 0, 0, 'WITHSCORES')[2])
end

-- Makes due jobs available, in the order of their times and ids.
local function promote()
  local due = call('ZRANGEBYSCORE', P .. 'timer', '-inf', string.format('%.17g', now), 'LIMIT', 0, PROMOTE)
  local ids = {}
  for n = 1, #due do ids[n] = string.gsub(due[n], '^0+', '') end
  local last = call('INCRBY', P .. 'seq', #ids)
  local values = values_of(ids)
  call('ZREM', P .. 'timer', unpack(due))
  for n = 1, #ids do
    local id, v = ids[n], values[n]
    local first = v and byte(v, 1)
    if first == M or first == S or first == T then
      local s, letter = stream_of(v), first == T and 't' or 's'
      local seq, flow = last - #ids + n, flow_in(v, body_of(v))
      if flow and keys().rival_of(id, flow, letter, 'p') then
        move(id, v, 'py', first == M and rep('\0', 50) or sub(v, 14, 63), '', '', false, '')
      else
        leave(P .. 'wait:' .. s .. ':' .. letter, id)
        if flow then keys().pass_keys(id, unpack_at('<d', v, 6), flow, letter, 'p') end
        if first == M then
          set(id, 'p' .. sub(v, 2, 13) .. rep('\0', 16) .. sub(v, 14, 21) .. rep('\0', 26)
            .. pack('<I4dd', #v - 21, seq, 0) .. '\0' .. sub(v, 22))
        else
          set(id, 'p' .. sub(v, 2, 67) .. pack('<d', seq) .. sub(v, 76))
        end
        line_up(id, s, seq)
        add(s, letter, -1)
        add(s, 'p', 1)
      end
    end
  end
end

local FEW = 32

-- Returns whether a class takes from a stream: a few are looked for one by one, for many a set is made first.
local function chooser(takes, many)
  if not many then
    return function(s) return string.find(takes, ',' .. s .. ',', 1, true) end
  end
  local set = {}
  for s in string.gmatch(sub(takes, #token + 2), '%d+') do set[s] = true end
  return function(s) return set[s] end
end

-- Returns the streams with work that may be claimed, best first: {priority, stream} each.
local function open_streams(takes)
  local there = call('ZRANGE', P .. 'avail', 0, -1, 'WITHSCORES')
  local taken = chooser(takes, #there > 2 * FEW)
  local paused = #there > 0 and call('SMEMBERS', P .. 'pause') or {}
  local stopped = {}
  for _, what in ipairs(paused) do stopped[what] = true end
  local found = {}
  for n = 1, #there, 2 do
    local s = there[n]
    local may = taken(s)
    if may and #paused > 0 then
      local _, queue, task = unpack(named(s))
      may = not (stopped['queue:' .. queue] or stopped['task:' .. task])
    end
    if may and not (meta[5] and gates().is_shut(s)) then found[#found + 1] = {there[n + 1], s} end
  end
  return found
end

-- Returns the first *need* ids of several lines of one priority, in the order of their places, and takes them out.
-- Reads a little of each line at a time: what lies before the last one read of every line is complete.
local function merged(lines, need)
  local got = {}
  local chunk = min(need, max(8, math.ceil(2 * need / #lines)))
  repeat
    local bound, heads = math.huge, {}
    for _, line in ipairs(lines) do
      local some = line.shut and NONE or call('ZRANGE', line.key, line.taken, line.taken + chunk - 1, 'WITHSCORES')
      for i = 1, #some, 2 do heads[#heads + 1] = {tonumber(some[i + 1]), some[i], line} end
      if #some == 2 * chunk then bound = min(bound, tonumber(some[#some])) end
    end
    table.sort(heads, function(a, b) return a[1] < b[1] end)
    for _, head in ipairs(heads) do
      local line = head[3]
      if #got == need or head[1] > bound then break end
      line.shut = line.shut or line.wide[1] and not gates().may_start(line.wide)
      if not line.shut then
        got[#got + 1] = head[2]
        line.taken = line.taken + 1
        if line.back then leave(line.back, head[2]) end
      end
    end
  until #got == need or #heads == 0
  for _, line in ipairs(lines) do
    if line.taken > 0 then
      call('ZREMRANGEBYRANK', line.key, 0, line.taken - 1)
      drained[line.stream] = true
    end
  end
  return got
end

local function lines_of(streams_)
  local lines = {}
  for _, s in ipairs(streams_) do
    local wide = meta[5] and gates().wide_of(s) or NONE
    lines[#lines + 1] = {key = P .. 'ready:' .. s, stream = s, taken = 0, wide = wide}
    if call('EXISTS', P .. 'again:' .. s) == 1 then
      lines[#lines + 1] = {key = P .. 'again:' .. s, back = P .. 'back:' .. s, stream = s, taken = 0, wide = wide}
    end
  end
  return lines
end

-- Takes the first of one line.
local function firsts(line, need)
  local got = call('ZRANGE', line.key, 0, need - 1)
  if #got > 0 then
    call('ZREMRANGEBYRANK', line.key, 0, #got - 1)
    drained[line.stream] = true
  end
  return got
end

-- Returns the first *need* ids of open streams, and takes them out of their lines.
local function fetch(open, need)
  local ids, n = {}, 1
  if meta[5] then gates().read_again() end
  while n <= #open and #ids < need do
    local streams_, priority = {}, open[n][1]
    while n <= #open and open[n][1] == priority do
      streams_[#streams_ + 1] = open[n][2]
      n = n + 1
    end
    local lines = lines_of(streams_)
    local alone = #lines == 1 and not lines[1].wide[1]
    local got = alone and firsts(lines[1], need - #ids) or merged(lines, need - #ids)
    for i = 1, #got do ids[#ids + 1] = got[i] end
  end
  return ids
end

-- Leases jobs, best first, for a demand: {worker, start, cautious, deadline, n (how many it has got), claims (id and value of
-- each), aside (how many were put aside), early (how many were put in line, as it was not their turn)}.
local function lease(ids, demand)
  local values = values_of(ids)
  local worker, start, cautious, deadline = demand.worker, demand.start, demand.cautious, demand.deadline
  local first = demand.first
  local name = char(#worker) .. worker
  local now8, late = pack('<d', now), Z8
  local held_ = list(holding, P .. (deadline == '' and 'held:' .. worker or 'hand'))
  if deadline ~= '' then
    late = pack('<d', now + tonumber(deadline))
  end
  local fresh = rep('\0', 4) .. pack('<I4', 1) .. rep('\0', 8)
  local idle, none = rep('\0', 16), Z8 .. Z8 .. late .. '\0\0'
  local starting = now8 .. Z8 .. late .. '\0\0'
  local claims, taken, counted, n, wide = demand.claims, {}, {}, demand.n, meta[5]
  local held_before, set_before = n - #held_, 2 * n - #setting -- what has been written already
  for i = 1, #ids do
    local id, v = ids[i], values[i]
    local letter = v and byte(v, 1)
    local body = letter == N and 14 or letter == P_ and 85 + byte(v, 84)
    local flow = body and byte(v, body) >= MORE and flow_in(v, body)
    local seq = flow and (letter == N and tonumber(id) or unpack_at('<d', v, 68))
    if flow and flow.fair and turns().is_early(id, stream_of(v), seq, flow.fair) then
      demand.early = demand.early + 1
    elseif flow and gates().is_held_back(id, stream_of(v), seq, flow) then
      demand.aside = demand.aside + 1
    elseif body then
      local new
      if letter == N then
        local began = n < start and cautious > 0
        new = 'r' .. sub(v, 2, 13) .. (began and fresh or idle) .. sub(v, 6, 13)
          .. (began and starting or none) .. pack('<I4dd', #v - 13, id, first + n) .. name .. sub(v, 14)
      else
        local began = n < start and unpack_at('<I4', v, 26) < cautious
        local attempt = sub(v, 18, 21)
        if began then attempt = pack('<I4', unpack_at('<I4', attempt) + 1) end
        new = 'r' .. sub(v, 2, 17) .. attempt .. sub(v, 22, 37) .. (began and now8 or Z8) .. Z8 .. late
          .. sub(v, 62, 62) .. '\0' .. sub(v, 64, 75) .. pack('<d', first + n) .. name .. sub(v, body)
      end
      local four = sub(v, 2, 5)
      taken[four] = (taken[four] or 0) + 1
      if letter == N or unpack_at('<d', v, 68) == tonumber(id) then
        counted[four] = (counted[four] or 0) + 1
      end
      if flow then keys().pass_keys(id, unpack_at('<d', v, 6), flow, 'p', 'r') end
      if wide then
        for _, g in ipairs(gates().wide_of(stream_of(v))) do gates().enter(g, id) end
      end
      n = n + 1
      held_[n - held_before] = id
      setting[2 * n - set_before - 1], setting[2 * n - set_before] = id, new
      claims[2 * n - 1], claims[2 * n] = id, new
      if deadline ~= '' then join(P .. 'deadline', now + tonumber(deadline), id) end
    end
  end
  for four, of in pairs(taken) do
    local s = stream_of('r' .. four)
    add(s, 'p', -of)
    add(s, 'r', of)
    add(s, 'E', counted[four] or 0)
  end
  demand.n = n
end

local ASIDE = 1000

-- Meets a demand: part by part ({takes, limit}) of the streams that each takes. Rings the class if work is left, takes the marker
-- away if not.
local function claim(parts_, class, limit, demand)
  demand.first = max((meta[3] and tonumber(meta[3]) or 0) + 1, micros)
  local met = {}
  for _, part in ipairs(parts_) do
    local goal = min(limit, demand.n + part.limit)
    while demand.n < goal do
      local aside, early = demand.aside, demand.early
      local open = open_streams(part.takes)
      if meta[10] then turns().call_all(open, goal - demand.n) end
      local ids = fetch(open, goal - demand.n)
      if #ids > 0 then lease(ids, demand) end
      if demand.aside == aside and demand.early == early or demand.aside >= ASIDE then break end
      if demand.early > early then write_places() end
    end
    if demand.n == goal then met[#met + 1] = part.takes end
  end
  if demand.n > 0 then
    call('HSET', KEYS[1], 'lease', string.format('%.0f', demand.first + demand.n - 1))
    if demand.deadline == '' then
      call('SADD', P .. 'holders', demand.worker)
      holders[demand.worker] = nil
    end
  end
  write_places()
  local bell = P .. 'bell:' .. class
  if #met == 0 then
    call('DEL', bell)
  elseif call('EXISTS', bell) == 0 then
    for _, takes in ipairs(met) do
      if #open_streams(takes) > 0 then
        call('RPUSH', bell, 1)
        call('EXPIRE', bell, 3600)
        break
      end
    end
  end
end
