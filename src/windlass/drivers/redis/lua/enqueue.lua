-- uses: clock value | count place ring minute body keys(holds) batches(batches) gates(gates) new(store)
-- Stores new jobs.
-- Args: number of streams, the name of each; then the two words of each job.
-- Returns: now (a double) and the table's token, the first id, place and id of each job that was found instead of a new one, and the
--   values of these; or now and the token, 0, why nothing was stored, and the value of the job that has the key.
local n_streams = tonumber(ARGV[1])
local at = 2 + n_streams
local n_jobs = (#ARGV + 1 - at) / 2
local refused = new().refusal(at, n_jobs)
if refused then
  return {new().created .. token, 0, refused, refused[1] == 'held' and values_of({refused[2]}) or {}}
end
call('INCRBY', P .. 'seq', 0) -- the first write: refused when memory is full
new().know_streams(2, n_streams)
local found, first = new().draw_and_store(at, n_jobs)
write_places()
write_counts()
if made_keys then keys().write_holds() end
if made_batches then batches().write_batches() end
if made_gates then gates().write_gates() end
if new().sooner then ring() elseif next(woken) then ring(woken) end
local ids = {}
for n = 2, #found, 2 do ids[n / 2] = found[n] end
return {new().created .. token, first, found, values_of(ids)}
