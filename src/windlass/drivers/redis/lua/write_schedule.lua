-- uses: clock value | count place ring minute body keys(holds) batches(batches) gates(gates) new(store) schedule_row
-- Writes a decision about a schedule, if it and its jobs are still as they were seen, with the jobs and the history that it brings.
-- Args: name, body and live jobs as they were seen ('' = none), the new body ('' = it goes), 1 if workers must look at the schedules,
--   rows of history that are kept, number of the first new row, of new rows; for each: 1 if it has a job, its queue, what it says;
--   then, if there are jobs, the words of "enqueue".
-- Returns: nil if it has moved; {} if there are no jobs; else what "enqueue" returns.
-- A row is kept with its number, its job and the job that has the key of its own before it, three doubles.
local name, row = ARGV[1], schedule_row(ARGV[1])
if row[1] ~= ARGV[2] or live_jobs(row[2]) ~= ARGV[3] then
  return false
end
local last, ticks = P .. 'last:' .. name, P .. 'ticks:' .. name
local first_row, n_rows = tonumber(ARGV[7]), tonumber(ARGV[8])
local streams_at = 9 + 3 * n_rows
local n_streams = tonumber(ARGV[streams_at] or 0)
local jobs_at = streams_at + 1 + n_streams
local n_jobs = max(0, (#ARGV + 1 - jobs_at) / 2)
local refused = n_jobs > 0 and new().refusal(jobs_at, n_jobs)
if refused then
  return {new().created .. token, 0, refused, refused[1] == 'held' and values_of({refused[2]}) or {}}
end
if n_jobs > 0 then
  call('INCRBY', P .. 'seq', 0) -- the first write: refused when memory is full
else
  call('DEL', P .. 'nothing') -- see exchange
end

local found, first, rivals, ids = {}, 0, {}, {}
if n_jobs > 0 then
  new().know_streams(streams_at + 1, n_streams)
  found, first = new().draw_and_store(jobs_at, n_jobs)
  write_places()
  write_counts()
  if made_keys then keys().write_holds() end
  if made_batches then batches().write_batches() end
  if made_gates then gates().write_gates() end
  for n = 1, #found, 2 do
    rivals[found[n]], ids[#ids + 1] = found[n + 1], found[n + 1]
  end
end

if row[1] == '' or ARGV[4] == '' then call('DEL', last, ticks) end
if ARGV[4] == '' then call('HDEL', P .. 'schedule', name) else call('HSET', P .. 'schedule', name, ARGV[4]) end
local rows, place = {}, 0
for n = 1, n_rows do
  local at, id, rival = 6 + 3 * n, 0, 0
  if ARGV[at] == '1' then
    place = place + 1
    rival = rivals[place] or 0
    if rival == 0 then
      id = first + place - 1
      call('HSET', last, ARGV[at + 1], string.format('%.0f', id))
    end
  end
  rows[n] = pack('<ddd', first_row + n - 1, id, rival) .. ARGV[at + 2]
end
if n_rows > 0 then
  many('RPUSH', ticks, rows)
  call('LTRIM', ticks, -tonumber(ARGV[6]), -1)
end

local stirs = ARGV[5] == '1'
-- Also another number than before where all was lost.
if stirs then call('HSET', KEYS[1], 'stamp', string.format('%.0f', max(micros, tonumber(meta[9] or 0) + 1))) end
if stirs or made_new and new().sooner then ring() elseif next(woken) then ring(woken) end
if n_jobs == 0 then
  return {}
end
return {new().created .. token, first, found, values_of(ids)}
