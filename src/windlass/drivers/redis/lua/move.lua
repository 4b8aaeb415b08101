-- Takes a job from where it is and puts it where it was decided.
local function draw()
  return call('INCR', P .. 'seq')
end

-- Forgets a job with all that hangs on it.
local function forget(id, body)
  for _, key in ipairs(named_by(body)) do leave(key, id) end
  deleting[#deleting + 1] = id
  call('DEL', P .. 'past:' .. id, P .. 'log:' .. id)
end

local holders = {}

-- Takes a job out of the index of its status; returns the letter by which it was counted.
local function depart(id, v, s, flow)
  local old = byte(v, 1)
  if old == R then
    local held
    if sub(v, 54, 61) ~= Z8 then
      held = P .. 'hand'
      leave(P .. 'deadline', id)
    else
      local worker = sub(v, 85, 84 + byte(v, 84))
      holders[worker] = true
      held = P .. 'held:' .. worker
    end
    local ids = list(releasing, held)
    ids[#ids + 1] = id
    return 'r'
  elseif old == N or old == P_ then
    local seq = old == N and tonumber(id) or unpack_at('<d', v, 68)
    if flow and gates().unblock(id, s, seq, flow) then
      return 'p'
    end
    if seq == tonumber(id) then
      leave(P .. 'ready:' .. s, id)
      add(s, 'E', 1)
    else
      leave(P .. 'again:' .. s, id)
      leave(P .. 'back:' .. s, id)
    end
    drained[s] = true
    return 'p'
  elseif old == M or old == S or old == T then
    local letter = old == T and 't' or 's'
    leave(P .. 'timer', padded(id))
    leave(P .. 'wait:' .. s .. ':' .. letter, id)
    return letter
  end
  local letter = char(old)
  unfile(id, s .. ':' .. letter)
  if old == D then
    local fault = fault_in(error_of(v))
    if fault then leave(P .. 'fault:' .. fault, id) end
  end
  return letter
end

-- Returns op, head, tail and past of a job that was to become what they say, but another one has its key: it is cancelled.
-- See lifecycle.superseded. *run_at*: when it was available, 8 bytes.
local function superseded(rival, first, totals, head, tail, past, run_at)
  local finished, how = pack('<d', now), '\0'
  if first == 'c' or first == 'd' or first == 'x' then
    finished, how = sub(head, 33, 40), sub(head, 50, 50)
  elseif past ~= '' then
    finished, how = sub(past, 13, 20), sub(past, 21, 21)
  end
  local result = #tail > 4 and sub(tail, 5 + unpack_at('<I4', tail)) or ''
  local own = '{"type":"Superseded","message":"superseded by #' .. rival .. '","kind":"discard"}'
  return string.gsub(totals, '[RDC]', '') .. 'C',
    sub(head, 1, 16) .. run_at .. sub(head, 25, 32) .. finished .. Z8 .. (how == '\0' and '\2' or '\6') .. how,
    pack('<I4', #own) .. own .. result
end

-- op: the new status, then k (keep the place), u (had not started), f (is forgotten at once) and y (yields to a rival), a colon, the
-- totals to raise. "q" asks a running job to stop, "D" deletes. head: its bytes 14 to 63; past: an attempt for the history; by_hand:
-- whoever holds the lease is told; new: a body instead of the one it has. Returns the id of a job that has a key which this one
-- would have to take: then it was cancelled if it yields, else nothing was done.
local function move(id, v, op, head, tail, past, by_hand, new)
  local s = stream_of(v)
  local first, flags, totals = string.match(op, '^(%a)(%l*):?(%u*)$')
  local running = byte(v, 1) == R
  if first == 'q' then
    local asked = byte(v, 62)
    if asked % 2 == 0 then
      set(id, sub(v, 1, 61) .. char(asked + 1) .. sub(v, 63))
      signal(sub(v, 85, 84 + byte(v, 84)), id, unpack_at('<d', v, 76), '1')
    end
    return
  end
  local keep = find(flags, 'k', 1, true)
  if first == 'p' and keep and not running and (byte(v, 1) == N or byte(v, 1) == P_) then
    return
  end
  local worker, body = parts(v)
  local short, before, after = byte(v, 1) == N or byte(v, 1) == M, letter_of(v), first ~= 'D' and first or nil
  local flow = flow_in(body, 1)
  local rival = flow and keys().rival_of(id, flow, before, after)
  if rival then
    if not find(flags, 'y', 1, true) then
      return rival
    end
    local run_at = short and sub(v, byte(v, 1) == N and 6 or 14, byte(v, 1) == N and 13 or 21) or sub(v, 30, 37)
    totals, head, tail = superseded(rival, first, totals, head, tail, past, run_at)
    first, after, keep, past = 'x', 'x', nil, ''
  end
  if running and by_hand then
    signal(sub(worker, 2), id, unpack_at('<d', v, 76), '0')
  end
  add(s, depart(id, v, s, flow), -1)
  if running and (flow or meta[5]) then gates().give_back(id, s, flow) end
  local batch = batch_in(body, 1)
  if batch then batches().count_member(batch, before, after) end
  if find(flags, 'f', 1, true) then after = nil end
  if flow then keys().pass_keys(id, unpack_at('<d', v, 6), flow, before, after) end
  for total in string.gmatch(totals, '%u') do
    add(s, total, 1)
  end
  if not after then
    forget(id, body)
    return rival
  end
  if past ~= '' then
    call('RPUSH', P .. 'past:' .. id, past)
  end
  if find(flags, 'u', 1, true) then
    local last = call('LINDEX', P .. 'past:' .. id, -1)
    worker = last and sub(last, 22, 22 + byte(last, 22)) or '\0'
    head = sub(head, 1, 24) .. (last and sub(last, 5, 12) or Z8) .. sub(head, 33)
  end
  body = new ~= '' and new or body
  local rest = pack('<I4', #body) .. (short and Z8 .. Z8 or sub(v, 68, 83))
  if first == 'p' then
    local seq
    if keep and running then
      seq = unpack_at('<d', v, 68)
    else
      seq = draw()
      head = sub(head, 1, 16) .. pack('<d', now) .. sub(head, 25)
      rest = sub(rest, 1, 4) .. pack('<d', seq) .. sub(rest, 13)
    end
    line_up(id, s, seq)
    if seq == tonumber(id) then add(s, 'E', -1) end
  elseif first == 's' or first == 't' then
    join(P .. 'timer', unpack_at('<d', head, 17), padded(id))
    join(P .. 'wait:' .. s .. ':' .. first, id, id)
  else
    file(id, s .. ':' .. first, unpack_at('<d', head, 33))
    if first == 'd' and tail ~= '' then blame(id, fault_in(sub(tail, 5, 4 + unpack_at('<I4', tail)))) end
  end
  set(id, first .. sub(v, 2, 13) .. head .. rest .. worker .. body .. tail)
  add(s, first, 1)
  return rival
end

-- Forgets holders that hold nothing more; after write_places.
local function write_holders()
  for worker in pairs(holders) do
    if call('EXISTS', P .. 'held:' .. worker) == 0 then
      call('SREM', P .. 'holders', worker)
    end
  end
end

-- Writes what has been gathered beside the places. Returns gates of whole streams that have room again for those passed over.
local function write_rest()
  write_holders()
  write_counts()
  if made_keys then keys().write_holds() end
  if made_batches then batches().write_batches() end
  return made_gates and gates().write_gates() or NONE
end
