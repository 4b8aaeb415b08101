-- Wakes: one marker for every class of workers that takes from one of *streams*, or knows too few; all where it is nil.
-- A class whose marker lies there already, or that has just been told, is left alone.
local function ring(streams)
  local classes = call('HGETALL', P .. 'class')
  for i = 1, #classes, 2 do
    local takes = classes[i + 1]
    local meant = not streams or takes == '*' or sub(takes, 1, #token) ~= token
    if not meant then
      for stream in pairs(streams) do
        if string.find(takes, ',' .. stream .. ',', 1, true) then
          meant = true
          break
        end
      end
    end
    local bell = P .. 'bell:' .. classes[i]
    if meant and call('EXISTS', bell) == 0 then
      call('RPUSH', bell, 1)
      call('EXPIRE', bell, 3600)
    end
  end
end
