-- uses: clock batch_row
-- Stores a new batch. Args: what never changes of it, its parent or nothing.
-- Returns: "" and the batch; or why there is none: its parent is "missing" or "closed".
local parent = P .. 'batch:' .. ARGV[2]
if ARGV[2] ~= '' then
  local row = call('HMGET', parent, 'head', 'finished')
  if not row[1] or row[2] then
    return {row[1] and 'closed' or 'missing', false}
  end
end
local id = string.format('%.0f', call('HINCRBY', KEYS[1], 'batch', 1)) -- the first write: refused when memory is full
if ARGV[2] ~= '' then call('HINCRBY', parent, 'children', 1) end
call('HSET', P .. 'batch:' .. id, 'head', ARGV[1], 'created', string.format('%.17g', now), 'open', 1, 'total', 0, 'c', 0, 'd', 0,
  'x', 0, 'children', 0, 'fired', '[]')
call('ZADD', P .. 'batches', id, id)
return {'', batch_row(id)}
