-- Notes the first id of a minute later than all before, or how far the clock was set back: ids and instants stand in one
-- order only but for that.
local function first_of_minute(minute, latest, id)
  local back = latest and latest - minute or -1
  if back < 0 then
    redis.call('HSET', KEYS[1], 'minute', minute)
    redis.call('ZADD', string.sub(KEYS[1], 1, -5) .. 'when', minute, id)
  elseif back > tonumber(redis.call('HGET', KEYS[1], 'back') or 0) then
    redis.call('HSET', KEYS[1], 'back', back)
  end
end
