-- uses: clock value schedule_row
-- Reads schedules. Args: 1 to look at their jobs, names. Returns: now (a double), and each: body, last jobs, those that have not ended.
local found = {pack('<d', now)}
for n = 2, #ARGV do
  local row = schedule_row(ARGV[n])
  if ARGV[1] == '1' then row[3] = live_jobs(row[2]) end
  found[n] = row
end
return found
