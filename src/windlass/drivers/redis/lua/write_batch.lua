-- uses: clock value | count place ring minute body keys(holds) batches(batches) gates(gates) new(store) batch_row
-- Writes a decision about a batch, if it is still as it was seen, with the jobs that it brings.
-- Args: id, what moves of it as it was seen (8 words), 1 if it is open ('' = nothing is to be done), callbacks that are enqueued (JSON), when
--   it finished or nothing, the parent that waits for it no more or nothing, 1 to delete it; then, if it brings jobs, the words of
--   "enqueue".
-- Returns: nil if it has moved; else 0; or 1 and what "enqueue" returns for jobs that may not be stored.
call('DEL', P .. 'nothing') -- see exchange
local id, key, row = ARGV[1], P .. 'batch:' .. ARGV[1], batch_row(ARGV[1])
for n = 1, 8 do
  if not row or row[4][n] ~= ARGV[1 + n] then
    return false
  end
end
local n_streams = tonumber(ARGV[15] or 0)
local at = 16 + n_streams
local n_jobs = max(0, (#ARGV + 1 - at) / 2)
local refused = new().refusal(at, n_jobs)
if refused then
  return {1, new().created .. token, refused, refused[1] == 'held' and values_of({refused[2]}) or {}}
end
call('ZREM', P .. 'ripe', id)
if call('EXISTS', P .. 'ripe') == 0 then call('HDEL', KEYS[1], 'ripe') end
if ARGV[10] == '' then
  return {0}
end
local parent = P .. 'batch:' .. ARGV[13]
if ARGV[13] ~= '' and call('EXISTS', parent) == 1 and call('HINCRBY', parent, 'children', -1) <= 0 then batches().ripen(ARGV[13]) end
if ARGV[14] == '1' then
  call('DEL', key)
  call('ZREM', P .. 'batches', id)
else
  call('HSET', key, 'open', ARGV[10], 'fired', ARGV[11])
  if ARGV[12] ~= '' then call('HSET', key, 'finished', ARGV[12]) else call('HDEL', key, 'finished') end
end
if n_jobs > 0 then
  new().know_streams(16, n_streams)
  new().draw_and_store(at, n_jobs)
  write_places()
  write_counts()
  if made_keys then keys().write_holds() end
  batches().write_batches()
  if made_gates then gates().write_gates() end
  if new().sooner then ring() elseif next(woken) then ring(woken) end
end
return {0}
