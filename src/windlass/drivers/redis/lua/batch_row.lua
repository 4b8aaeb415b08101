-- A batch as it is read: id, what never changes, the instant of its creation, and what moves.
local MOVING = {'open', 'total', 'c', 'd', 'x', 'children', 'fired', 'finished'}

local function batch_row(id)
  local key = P .. 'batch:' .. id
  local fixed = call('HMGET', key, 'head', 'created')
  if not fixed[1] then
    return nil
  end
  local moving = call('HMGET', key, unpack(MOVING))
  moving[8] = moving[8] or ''
  return {id, fixed[1], fixed[2], moving}
end
