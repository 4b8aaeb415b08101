-- uses: clock value count place ring body move
-- Writes decisions about jobs, each if the job is still as it was seen.
-- Args: for each: id, the head as seen, op, head, tail, past.
-- Returns: the positions of those that were not written.
call('DEL', P .. 'nothing') -- see exchange
local ids, missed = {}, {}
for n = 1, #ARGV / 6 do ids[n] = ARGV[n * 6 - 5] end
local values = values_of(ids)
local soon, told = false, false
for n = 1, #ids do
  local base, v = n * 6 - 5, values[n]
  local seen = ARGV[base + 1]
  if v and sub(v, 1, #seen) == seen then
    move(ids[n], v, ARGV[base + 2], ARGV[base + 3], ARGV[base + 4], ARGV[base + 5], true)
    local first = byte(ARGV[base + 2], 1)
    soon = soon or first == S or first == T
    told = told or byte(v, 1) == R
  else
    missed[#missed + 1] = n
  end
end
write_places()
write_holders()
write_counts()
if soon then ring() elseif told or next(woken) then ring(woken) end
return missed
