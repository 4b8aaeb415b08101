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
      local seq = last - #ids + n
      leave(P .. 'wait:' .. s .. ':' .. letter, id)
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
      local name = cjson.decode(call('HGET', P .. 'streams', s))
      may = not (stopped['queue:' .. name[2]] or stopped['task:' .. name[3]])
    end
    if may then found[#found + 1] = {there[n + 1], s} end
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
      local some = call('ZRANGE', line.key, line.taken, line.taken + chunk - 1, 'WITHSCORES')
      for i = 1, #some, 2 do heads[#heads + 1] = {tonumber(some[i + 1]), some[i], line} end
      if #some == 2 * chunk then bound = min(bound, tonumber(some[#some])) end
    end
    table.sort(heads, function(a, b) return a[1] < b[1] end)
    for _, head in ipairs(heads) do
      if #got == need or head[1] > bound then break end
      got[#got + 1] = head[2]
      head[3].taken = head[3].taken + 1
      if head[3].back then leave(head[3].back, head[2]) end
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

local function lines_of(streams)
  local lines = {}
  for _, s in ipairs(streams) do
    lines[#lines + 1] = {key = P .. 'ready:' .. s, stream = s, taken = 0}
    if call('EXISTS', P .. 'again:' .. s) == 1 then
      lines[#lines + 1] = {key = P .. 'again:' .. s, back = P .. 'back:' .. s, stream = s, taken = 0}
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

-- Leases jobs, best first; returns id and value of each.
local function lease(ids, worker, start, cautious, deadline)
  local values = values_of(ids)
  local first = max((meta[3] and tonumber(meta[3]) or 0) + 1, micros)
  local name = char(#worker) .. worker
  local now8, late = pack('<d', now), Z8
  local held = list(holding, P .. (deadline == '' and 'held:' .. worker or 'hand'))
  if deadline ~= '' then
    late = pack('<d', now + tonumber(deadline))
  end
  local fresh = rep('\0', 4) .. pack('<I4', 1) .. rep('\0', 8)
  local idle, none = rep('\0', 16), Z8 .. Z8 .. late .. '\0\0'
  local starting = now8 .. Z8 .. late .. '\0\0'
  local claims, taken, counted, n = {}, {}, {}, 0
  for i = 1, #ids do
    local id, v = ids[i], values[i]
    local letter = v and byte(v, 1)
    local new
    if letter == N then
      local began = n < start and cautious > 0
      new = 'r' .. sub(v, 2, 13) .. (began and fresh or idle) .. sub(v, 6, 13)
        .. (began and starting or none) .. pack('<I4dd', #v - 13, id, first + n) .. name .. sub(v, 14)
    elseif letter == P_ then
      local began = n < start and unpack_at('<I4', v, 26) < cautious
      local attempt = sub(v, 18, 21)
      if began then attempt = pack('<I4', unpack_at('<I4', attempt) + 1) end
      new = 'r' .. sub(v, 2, 17) .. attempt .. sub(v, 22, 37) .. (began and now8 or Z8) .. Z8 .. late
        .. sub(v, 62, 62) .. '\0' .. sub(v, 64, 75) .. pack('<d', first + n) .. name .. sub(v, 85 + byte(v, 84))
    end
    if new then
      local four = sub(v, 2, 5)
      taken[four] = (taken[four] or 0) + 1
      if letter == N or unpack_at('<d', v, 68) == tonumber(id) then
        counted[four] = (counted[four] or 0) + 1
      end
      n = n + 1
      held[n] = id
      setting[2 * n - 1], setting[2 * n] = id, new
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
  if n > 0 then
    call('HSET', KEYS[1], 'lease', string.format('%.0f', first + n - 1))
    if deadline == '' then
      call('SADD', P .. 'holders', worker)
      holders[worker] = nil
    end
  end
  return claims
end

-- Claims the best jobs of the streams in *takes*. Rings the class if it leaves work, takes the marker away if not.
local function claim(takes, worker, class, limit, start, cautious, deadline)
  local open = open_streams(takes)
  local ids, n = {}, 1
  while n <= #open and #ids < limit do
    local streams, priority = {}, open[n][1]
    while n <= #open and open[n][1] == priority do
      streams[#streams + 1] = open[n][2]
      n = n + 1
    end
    local lines = lines_of(streams)
    local got = #lines == 1 and firsts(lines[1], limit - #ids) or merged(lines, limit - #ids)
    for i = 1, #got do ids[#ids + 1] = got[i] end
  end
  local claims = {}
  if #ids > 0 then
    claims = lease(ids, worker, start, cautious, deadline)
    write_places()
  end
  local bell = P .. 'bell:' .. class
  if #ids < limit then
    call('DEL', bell)
  elseif call('EXISTS', bell) == 0 and #open_streams(takes) > 0 then
    call('RPUSH', bell, 1)
    call('EXPIRE', bell, 3600)
  end
  return claims
end
