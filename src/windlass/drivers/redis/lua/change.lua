-- uses: clock value | count place ring body keys(holds) batches(batches) gates(gates) fault signal move
-- Writes decisions about jobs, each if the job is still as it was seen.
-- Args: for each: id, the head as seen, op, head, tail, past, a new body or nothing.
-- Returns: the positions of those that were not written; position and rival of each that another job kept from moving, which has its
--   key; the values of these rivals.
call('DEL', P .. 'nothing') -- see exchange
local ids, missed, met, rivals = {}, {}, {}, {}
for n = 1, #ARGV / 7 do ids[n] = ARGV[n * 7 - 6] end
local values = values_of(ids)
local soon, told = false, false
for n = 1, #ids do
  local base, v = n * 7 - 6, values[n]
  local seen = ARGV[base + 1]
  if v and sub(v, 1, #seen) == seen then
    local rival = move(ids[n], v, ARGV[base + 2], ARGV[base + 3], ARGV[base + 4], ARGV[base + 5], true, ARGV[base + 6])
    if rival then
      met[#met + 1] = n
      met[#met + 1] = rival
      rivals[#rivals + 1] = rival
    end
    local first = byte(ARGV[base + 2], 1)
    soon = soon or first == S or first == T
    told = told or byte(v, 1) == R
  else
    missed[#missed + 1] = n
  end
end
write_places()
if made_gates then
  gates().reopen()
  gates().admit()
  write_places()
end
local open = write_rest()
if soon or #open > 0 then ring() elseif told or next(woken) then ring(woken) end
return {missed, met, values_of(rivals)}
