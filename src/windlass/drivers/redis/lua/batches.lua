-- Batches: a hash "batch:ID" each, counted in once for all that a script does. "ripe" has those about which something is to be
-- decided, in the order in which they ripened; a field of meta says whether there are any.
local moves_of = {}

-- Counts a member that moves; statuses as in holds. What has ended stays counted when it is deleted.
local function count_member(id, before, after)
  local ended = before == 'c' or before == 'd' or before == 'x'
  if not id or ended and not after then
    return
  end
  local of = moves_of[id]
  if not of then
    of = {total = 0, c = 0, d = 0, x = 0}
    moves_of[id] = of
  end
  if not before then
    of.total = of.total + 1
  else
    of.moved = true
    if ended then of[before] = of[before] - 1 end
  end
  if not after then
    of.total = of.total - 1
  elseif after == 'c' or after == 'd' or after == 'x' then
    of[after] = of[after] + 1
    of.died = of.died or after == 'd'
  end
end

local function ripen(id)
  call('ZADD', P .. 'ripe', 'NX', micros, id)
  call('HSET', KEYS[1], 'ripe', 1)
  meta[8] = '1'
end

local function write_batches()
  for id, of in pairs(moves_of) do
    local key = P .. 'batch:' .. id
    local now_ = call('HMGET', key, 'total', 'c', 'd', 'x')
    if now_[1] then -- else it was deleted
      local total, c, d, x = now_[1] + of.total, now_[2] + of.c, now_[3] + of.d, now_[4] + of.x
      call('HSET', key, 'total', total, 'c', c, 'd', d, 'x', x)
      if of.died or of.moved and total - c - d - x <= 0 then ripen(id) end
    end
  end
  moves_of = {}
end

-- Returns the first of some batches that takes no members, and why: it has finished, or is missing.
local function closed_batch(ids)
  for id in pairs(ids) do
    local row = call('HMGET', P .. 'batch:' .. id, 'total', 'finished')
    if not row[1] or row[2] then
      return {row[1] and 'closed' or 'missing', id}
    end
  end
end

made.count_member, made.ripen, made.write_batches, made.closed_batch = count_member, ripen, write_batches, closed_batch
