-- Leaves a message for the worker that holds a lease, or held it, and wakes it.
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
