-- Storing new jobs, each spelt in two words: its body, and how it is placed: empty for the first stream and at once, else the
-- position of its stream (2 bytes), 0 or 1 for a delay or 2 for an instant (1 byte), seconds (a double).
local streams, news, ready, flows = {}, {}, {}, {}
local created = pack('<d', now)
local first_due

-- Finds the numbers of *n* streams, whose names are the words from *at* on; makes those that are new.
local function know_streams(at, n)
  streams = call('HMGET', P .. 'stream', unpack(ARGV, at, at + n - 1))
  for i = 1, n do
    if not streams[i] then
      streams[i] = tostring(call('HINCRBY', KEYS[1], 'streams', 1))
      call('HSET', P .. 'stream', ARGV[at + i - 1], streams[i])
      call('HSET', P .. 'streams', streams[i], ARGV[at + i - 1])
      token = string.format('%.0f', max(micros, (tonumber(token) or 0) + 1))
      call('HSET', KEYS[1], 'table', token)
    end
    news[i], ready[i] = 'n' .. pack('<I4', tonumber(streams[i])) .. created, P .. 'ready:' .. streams[i]
  end
  first_due = tonumber(call('ZRANGE', P .. 'timer', 0, 0, 'WITHSCORES')[2] or nil) or math.huge
end

-- Reads what the jobs name that are spelt from *at* on. Returns why none of them may be stored: "held" and the id of the job that has a
-- key which must be free, or "new" and the place of the job before it that would have it; "closed" or "missing" and the id of a batch.
local function refusal(at, n)
  local wanted, of, any = {}, {}, false
  for i = at, at + 2 * n - 2, 2 do
    local flags = byte(ARGV[i], 1)
    if flags >= MORE then
      flows[i] = flow_in(ARGV[i], 1)
      for _, hold in ipairs(flows[i] and flows[i][1] or NONE) do wanted[#wanted + 1] = hold[1] end
    end
    if flags % 8 >= 4 then of[batch_in(ARGV[i], 1)], any = true, true end
  end
  local seen = {}
  if #wanted > 0 then keys().load_holds(wanted) end
  for i = at, #wanted > 0 and at + 2 * n - 2 or 0, 2 do
    for _, hold in ipairs(flows[i] and flows[i][1] or NONE) do
      local rival = hold[4] and keys().holder_of(hold[1], nil)
      if rival then
        return {'held', rival}
      elseif hold[4] and seen[hold[1]] then
        return {'new', seen[hold[1]]}
      end
      seen[hold[1]] = seen[hold[1]] or (i - at) / 2 + 1
    end
  end
  return any and batches().closed_batch(of) or nil
end

-- Returns the first gate before which others wait and which is as the job says: it would only be put aside by a claim.
local function shut_gate(flow)
  for _, spec in ipairs(flow[2]) do
    local g = gates().gate_of(spec[1])
    if g and (g.pinned or gates().is_as(g, spec)) then
      if g.waited == nil then g.waited = call('EXISTS', P .. 'blocked:' .. g.key) == 1 end
      if g.waited then
        return g
      end
    end
  end
end

local function holder_for(flow)
  for _, hold in ipairs(flow[1]) do
    local rival = keys().holder_of(hold[1], nil)
    if rival then
      return rival
    end
  end
end

-- Stores the *n* jobs that are spelt from *at* on, with ids from *first* on; those whose key is held are not stored. Returns place
-- and holder's id of each of these.
local function store(at, n, first)
  local found = {}
  for i = 1, n do
    local id = tostring(first + i - 1)
    local body, how, stream = ARGV[at], ARGV[at + 1], 1
    local due = now
    if how ~= '' then
      local kind, seconds
      stream, kind, seconds = unpack_at('<I2Bd', how)
      if kind == 1 then due = now + seconds elseif kind == 2 then due = seconds end
    end
    local s, flags = streams[stream], byte(body, 1)
    local flow = flags >= MORE and (flows[at] or flow_in(body, 1)) or nil
    local rival = flow and holder_for(flow)
    if rival then
      found[#found + 1] = i
      found[#found + 1] = rival
    else
      if due > now then
        set(id, 'm' .. sub(news[stream], 2) .. pack('<d', due) .. body)
        join(P .. 'timer', due, padded(id))
        join(P .. 'wait:' .. s .. ':s', id, id)
        add(s, 's', 1)
        add(s, 'E', 1)
        made.sooner = made.sooner or due < first_due
      else
        set(id, news[stream] .. body)
        local shut = flow and shut_gate(flow)
        if shut then
          gates().block(id, s, tonumber(id), shut)
        else
          join(ready[stream], id, id)
          filled[s] = true
        end
      end
      if flow then keys().pass_keys(id, now, flow, nil, due > now and 's' or 'p') end
      if flags % MORE >= 4 then
        for _, key in ipairs(named_by(body)) do join(key, id, id) end
        if flags % 8 >= 4 then batches().count_member(batch_in(body, 1), nil, 'p') end
      end
    end
    at = at + 2
  end
  return found
end

-- Stores jobs whose ids are drawn now.
local function draw_and_store(at, n)
  local first = call('INCRBY', P .. 'seq', n) - n + 1
  local minute = tostring(floor(now / 60))
  if meta[4] ~= minute then
    first_of_minute(minute, meta[4], first)
    meta[4] = minute
  end
  return store(at, n, first), first
end

made.created, made.know_streams, made.refusal, made.draw_and_store = created, know_streams, refusal, draw_and_store
