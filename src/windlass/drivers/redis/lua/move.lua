-- Takes a job from where it is and puts it where it was decided.
local function signal(worker, id, lease, cancel)
  local mail = P .. 'mail:' .. worker
  call('SADD', mail, id .. ':' .. string.format('%.0f', lease) .. ':' .. cancel)
  call('EXPIRE', mail, 86400)
  local card = call('HGET', P .. 'worker', worker)
  if card and byte(card, 18) > 0 then
    local bell = P .. 'bell:' .. sub(card, 19, 18 + byte(card, 18))
    if call('EXISTS', bell) == 0 then
      call('RPUSH', bell, 1)
      call('EXPIRE', bell, 3600)
    end
  end
end

local function draw()
  return call('INCR', P .. 'seq')
end

-- Removes a job from the indexes of its body.
local function forget(id, body)
  local keys, own = named_by(body)
  for _, key in ipairs(keys) do leave(key, id) end
  if own then
    local left = string.gsub(call('HGET', P .. 'key', own) or '', ',' .. id .. ',', ',')
    if #left > 1 then
      call('HSET', P .. 'key', own, left)
    else
      call('HDEL', P .. 'key', own)
    end
  end
end

local holders = {}

-- Takes a job out of the index of its status; returns the letter by which it was counted.
local function depart(id, v, s)
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
  elseif old == N then
    leave(P .. 'ready:' .. s, id)
    add(s, 'E', 1)
    drained[s] = true
    return 'p'
  elseif old == P_ then
    if unpack_at('<d', v, 68) == tonumber(id) then
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
  return letter
end

local function line_up(id, s, seq)
  if seq == tonumber(id) then
    join(P .. 'ready:' .. s, id, id)
  else
    join(P .. 'again:' .. s, seq, id)
    join(P .. 'back:' .. s, id, id)
  end
  filled[s] = true
end

-- op: the new status, then k (keep the place) and u (had not started), a colon, the totals to raise. "q" asks a running job to
-- stop, "D" deletes. head: its bytes 14 to 63; past: an attempt for the history. by_hand: whoever holds the lease is told.
local function move(id, v, op, head, tail, past, by_hand)
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
  local keep = string.find(flags, 'k', 1, true)
  if first == 'p' and keep and not running and (byte(v, 1) == N or byte(v, 1) == P_) then
    return
  end
  local worker, body = parts(v)
  if running and by_hand then
    signal(sub(worker, 2), id, unpack_at('<d', v, 76), '0')
  end
  add(s, depart(id, v, s), -1)
  if first == 'D' then
    forget(id, body)
    deleting[#deleting + 1] = id
    call('DEL', P .. 'past:' .. id)
    return
  end
  if past ~= '' then
    call('RPUSH', P .. 'past:' .. id, past)
  end
  if string.find(flags, 'u', 1, true) then
    local last = call('LINDEX', P .. 'past:' .. id, -1)
    worker = last and sub(last, 22, 22 + byte(last, 22)) or '\0'
    head = sub(head, 1, 24) .. (last and sub(last, 5, 12) or Z8) .. sub(head, 33)
  end
  local long = byte(v, 1) ~= N and byte(v, 1) ~= M
  local rest = long and sub(v, 64, 83) or pack('<I4dd', #body, 0, 0)
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
  end
  set(id, first .. sub(v, 2, 13) .. head .. rest .. worker .. body .. tail)
  add(s, first, 1)
  for total in string.gmatch(totals, '%u') do
    add(s, total, 1)
  end
end

-- Forgets holders that hold nothing more; after write_places.
local function write_holders()
  for worker in pairs(holders) do
    if call('EXISTS', P .. 'held:' .. worker) == 0 then
      call('SREM', P .. 'holders', worker)
    end
  end
end
