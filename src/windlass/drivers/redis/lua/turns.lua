-- Jobs that take turns. "turn:S" has the keys of a stream whose jobs wait, in the order in which their turns come; "line:S:KEY" has
-- such jobs in the order of their places, out of the stream's lines. A claim calls so many back as it may take, the first of each key in
-- its turn; whom it does not take stands in line again at the next. A field of meta says whether there has ever been one.
local SORTED = 1000
local called = {}

local function line_of(s, key)
  return P .. 'line:' .. s .. ':' .. key
end

-- Gives a key the last turn. how: 'NX' if it must not lose the one that it has.
local function give_turn(s, key, how)
  local last = call('ZRANGE', P .. 'turn:' .. s, -1, -1, 'WITHSCORES')[2]
  local place = string.format('%.0f', (last and tonumber(last) or 0) + 1)
  if how then call('ZADD', P .. 'turn:' .. s, how, place, key) else call('ZADD', P .. 'turn:' .. s, place, key) end
  if not meta[10] then
    meta[10] = '1'
    call('HSET', KEYS[1], 'fair', 1)
  end
end

-- Puts a job in line that stands in no line of its stream any more.
local function stand(id, s, seq, key)
  join(line_of(s, key), seq, id)
  join(P .. 'wait:' .. s .. ':b', id, id)
  if seq == tonumber(id) then add(s, 'E', 1) end
  give_turn(s, key, 'NX')
end

-- Puts in line who has come to a stream since, so that a new key is known before the next is called.
local function sort(s)
  local ids = call('ZRANGE', P .. 'ready:' .. s, 0, SORTED - 1)
  for _, id in ipairs(call('ZRANGE', P .. 'again:' .. s, 0, SORTED - #ids - 1)) do ids[#ids + 1] = id end
  local values = values_of(ids)
  local found = {}
  for n = 1, #ids do
    local id, v = ids[n], values[n]
    local letter = v and byte(v, 1)
    local flow = (letter == N or letter == P_) and flow_in(v, body_of(v))
    if flow and flow.fair then
      found[#found + 1] = {letter == N and tonumber(id) or unpack_at('<d', v, 68), id, flow.fair}
    end
  end
  table.sort(found, function(a, b) return a[1] < b[1] end)
  for _, one in ipairs(found) do
    local seq, id, key = unpack(one)
    if seq == tonumber(id) then
      leave(P .. 'ready:' .. s, id)
    else
      leave(P .. 'again:' .. s, id)
      leave(P .. 'back:' .. s, id)
    end
    stand(id, s, seq, key)
  end
end

-- Returns the first of each line, and again, *number* at most: {id, place, key} each. Forgets keys whose jobs have left by another
-- door; then the second is true.
local function in_turn(s, keys_, number)
  local each, lines, gone = math.ceil(number / #keys_), {}, false
  for _, key in ipairs(keys_) do
    local ids = call('ZRANGE', line_of(s, key), 0, each - 1, 'WITHSCORES')
    if #ids == 0 then
      call('ZREM', P .. 'turn:' .. s, key)
      gone, drained[s] = true, true
    else
      lines[#lines + 1] = {key, ids}
    end
  end
  local found = {}
  for n = 1, each do
    for _, line in ipairs(lines) do
      local id = line[2][2 * n - 1]
      if id and #found < number then found[#found + 1] = {id, tonumber(line[2][2 * n]), line[1]} end
    end
  end
  return found, gone
end

-- Lets *number* of a stream back to where they stood, in turn.
local function call_stream(s, number)
  local gone = true
  while gone and number > 0 do
    local keys_ = call('ZRANGE', P .. 'turn:' .. s, 0, number - 1)
    if #keys_ == 0 then break end
    local found
    found, gone = in_turn(s, keys_, number)
    for _, one in ipairs(found) do
      local id, seq, key = unpack(one)
      leave(line_of(s, key), id)
      leave(P .. 'wait:' .. s .. ':b', id)
      line_up(id, s, seq)
      if seq == tonumber(id) then add(s, 'E', -1) end
      called[id] = key
    end
    number = number - #found
    local new = woken[s]
    write_places()
    woken[s] = new -- they are nothing new: who waits for work has been rung when they came
  end
end

-- Has those in the lines of open streams whose turn it is.
local function call_all(open, number)
  for _, one in ipairs(open) do
    local s = one[2]
    if call('EXISTS', P .. 'turn:' .. s) == 1 then
      sort(s)
      write_places()
      call_stream(s, number)
    end
  end
end

-- Whether it is this job's turn, which it then has had; if not it is put in line.
local function is_early(id, s, seq, key)
  if not called[id] then
    stand(id, s, seq, key)
    return true
  end
  called[id] = nil
  if call('EXISTS', line_of(s, key)) == 1 then
    give_turn(s, key)
  else
    call('ZREM', P .. 'turn:' .. s, key)
    drained[s] = true
  end
  return false
end

made.call_all, made.is_early, made.line_of, made.give_turn = call_all, is_early, line_of, give_turn
