-- The groups of those that are dead: one for each fingerprint, which is at the end of an error.
-- Returns the last error of a job, '' if there is none.
local function error_of(v)
  local first = byte(v, 1)
  if first == N or first == M or byte(v, 62) % 4 < 2 then
    return ''
  end
  local at = 85 + byte(v, 84) + unpack_at('<I4', v, 64)
  return sub(v, at + 4, at + 3 + unpack_at('<I4', v, at))
end

-- Returns the fingerprint at the end of an error; nil: it has none.
local function fault_in(error)
  return string.match(sub(error, -33), '^"fingerprint":"(%x+)"}$')
end

-- Puts a dead job into the group of those that failed like it.
local function blame(id, fault)
  if fault then
    join(P .. 'fault:' .. fault, id, id)
    join(P .. 'fault', id, fault)
  end
end
