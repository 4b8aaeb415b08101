-- A job's value: how to read it and cut it. See value.py.
-- Bytes from 1: 1 status, 2 stream, 6 created; "m": 14 due. Long: 14 most, 18 attempt, 22 failures, 26 crashes, 30 run_at,
-- 38 started, 46 finished, 54 deadline, 62 flags, 63 outcome, 64 length of the body, 68 seq, 76 lease, 84 length of the
-- worker's name, 85 the name; then the body, and the tail if flag 2 is set.
local sub, byte, char, rep, find = string.sub, string.byte, string.char, string.rep, string.find
local pack, unpack_at = struct.pack, struct.unpack
local floor, max, min = math.floor, math.max, math.min
local N, M, S, P_, R, T, C, D, X = 110, 109, 115, 112, 114, 116, 99, 100, 120
local Z8 = rep('\0', 8)

local numbers = {}
-- Returns the number of a value's stream, as text.
local function stream_of(v)
  local four = sub(v, 2, 5)
  local found = numbers[four]
  if not found then
    found = tostring((unpack_at('<I4', four)))
    numbers[four] = found
  end
  return found
end

-- Returns the length of the worker's name with the name, and the body.
local function parts(v)
  local first = byte(v, 1)
  if first == N then
    return '\0', sub(v, 14)
  elseif first == M then
    return '\0', sub(v, 22)
  end
  local last = 84 + byte(v, 84)
  if byte(v, 62) % 4 >= 2 then
    return sub(v, 84, last), sub(v, last + 1, last + unpack_at('<I4', v, 64))
  end
  return sub(v, 84, last), sub(v, last + 1)
end

-- Returns where the body of a value begins.
local function body_of(v)
  local first = byte(v, 1)
  return first == N and 14 or first == M and 22 or 85 + byte(v, 84)
end

-- Returns the letter of a value's status, that of long values.
local function letter_of(v)
  local first = byte(v, 1)
  return first == N and 'p' or first == M and 's' or char(first)
end

-- Returns the values of jobs, false where there is none.
local function values_of(ids)
  if #ids <= 1000 then
    return #ids > 0 and redis.call('HMGET', P .. 'job', unpack(ids)) or {}
  end
  local found, n = {}, 0
  for start = 1, #ids, 1000 do
    local some = redis.call('HMGET', P .. 'job', unpack(ids, start, min(start + 999, #ids)))
    for i = 1, #some do
      n = n + 1
      found[n] = some[i]
    end
  end
  return found
end
