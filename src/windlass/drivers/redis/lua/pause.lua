-- uses: clock ring_all
-- Pauses or resumes. Args: "queue:" or "task:" and the name, 1 to pause.
call('DEL', P .. 'nothing') -- see exchange
if ARGV[2] == '1' then
  call('SADD', P .. 'pause', ARGV[1])
else
  call('SREM', P .. 'pause', ARGV[1])
end
return ring_all()
