-- Wakes one worker of every class.
local function ring_all()
  for _, class in ipairs(call('HKEYS', P .. 'class')) do
    local bell = P .. 'bell:' .. class
    if call('EXISTS', bell) == 0 then
      call('RPUSH', bell, 1)
      call('EXPIRE', bell, 3600)
    end
  end
end
