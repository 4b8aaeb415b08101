-- Counters of streams: how many are in each status (small letters), and totals that never fall (capitals). Those that pend are
-- not counted here: their lines know how long they are. Nor is a job counted as enqueued (E) while it stands in the line "ready",
-- so that an enqueue writes no counter.
local counts = {}
local function add(stream, what, n)
  local of = counts[stream]
  if not of then
    of = {}
    counts[stream] = of
  end
  of[what] = (of[what] or 0) + n
end

-- Writes what add has gathered, and the pulse: what was processed and failed in this second.
local function write_counts()
  local second = floor(now)
  local pulse = P .. 'pulse:' .. floor(second / 60)
  local fresh = false
  for stream, of in pairs(counts) do
    for what, n in pairs(of) do
      if n ~= 0 and what ~= 'p' then
        call('HINCRBY', P .. 'count', stream .. what, n)
        if what == 'P' or what == 'F' then
          fresh = call('HINCRBY', pulse, string.format('%d', second) .. what .. stream, n) == n or fresh
        end
      end
    end
  end
  if fresh then
    call('EXPIRE', pulse, 7200)
  end
end
