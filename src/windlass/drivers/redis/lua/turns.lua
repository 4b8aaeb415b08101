-- Jobs that take turns. "turn:S" has the keys of a stream whose jobs wait, in the order in which their turns come; "line:S:KEY" has
-- such jobs in the order of their places, out of the stream's lines. A claim calls so many back as it may take, the first of each key in
-- its turn; whom it does not take stands in line again at the next. A field of meta says whether there has ever been one.
local SORTED = 1000
local called, stood = {}, {}

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
  stood[line_of(s, key)] = true
  join(P .. 'wait:' .. s .. ':b', id, id)
  if seq == tonumber(id) then add(s, 'E', 1) end
  give_turn(s, key, 'NX')
end

-- Puts in line who has come to a stream since, so that a new key is known before the next is called.
local function sort(s)
  local rows, ids = {}, {}
  for _, line in ipairs({'ready:', 'again:'}) do
    local some = call('ZRANGE', P .. line .. s, 0, SORTED - 1, 'WITHSCORES')
    for n = 1, #some, 2 do rows[#rows + 1] = {tonumber(some[n + 1]), some[n]} end
  end
  table.sort(rows, function(a, b) return a[1] < b[1] end) -- nobody left is older than somebody in line
  for n = 1, min(#rows, SORTED) do ids[n] = rows[n][2] end
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

-- Returns the first of each line, and again, *number* at most: {id, place, key} each. spent: gets the keys of whom nobody is left, seen those
-- of whom somebody is called; others whose jobs have left by another door are forgotten.
local function in_turn(s, keys_, number, spent, seen)
  local each, lines = math.ceil(number / #keys_), {}
  for _, key in ipairs(keys_) do
    local ids = call('ZRANGE', line_of(s, key), 0, each - 1, 'WITHSCORES')
    if #ids < 2 * each then spent[key] = true end
    if #ids == 0 then
      if not seen[key] then
        call('ZREM', P .. 'turn:' .. s, key)
        drained[s] = true
      end
    else
      seen[key] = true
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
  return found
end

-- Lets *number* of a stream back to where they stood, in turn.
local function call_stream(s, number)
  local spent, seen = {}, {}
  while number > 0 do
    local keys_, last = {}, number - 1
    for _ in pairs(spent) do last = last + 1 end
    for _, key in ipairs(call('ZRANGE', P .. 'turn:' .. s, 0, last)) do
      if not spent[key] then keys_[#keys_ + 1] = key end
    end
    if #keys_ == 0 then break end
    local found = in_turn(s, keys_, number, spent, seen)
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
  if stood[line_of(s, key)] or call('EXISTS', line_of(s, key)) == 1 then
    give_turn(s, key)
  else
    call('ZREM', P .. 'turn:' .. s, key)
    drained[s] = true
  end
  return false
end

made.call_all, made.is_early, made.line_of, made.give_turn = call_all, is_early, line_of, give_turn
