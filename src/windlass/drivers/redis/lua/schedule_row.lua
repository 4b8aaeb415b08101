-- A schedule as it is read: its body, '' if there is none, and the last job of each queue, flat.
local function schedule_row(name)
  return {call('HGET', P .. 'schedule', name) or '', call('HGETALL', P .. 'last:' .. name)}
end

-- Returns which of the last jobs have not ended, as one text that can be compared.
local function live_jobs(last)
  local ids, live = {}, {}
  for n = 2, #last, 2 do ids[n / 2] = last[n] end
  for n, v in ipairs(values_of(ids)) do
    local letter = v and letter_of(v)
    if letter and letter ~= 'c' and letter ~= 'd' and letter ~= 'x' then live[#live + 1] = ids[n] end
  end
  table.sort(live)
  return table.concat(live, ',')
end
