-- uses: clock value signal
-- Sends a worker an order. Args: worker, job and lease of the signal. Returns: 0 if there is no such worker.
call('DEL', P .. 'nothing')
if not call('ZSCORE', P .. 'alive', ARGV[1]) then
  return 0
end
signal(ARGV[1], ARGV[2], tonumber(ARGV[3]), '1')
return 1
