-- uses: clock
-- Adds an entry to a journal. Args: journal, body, how many are kept, its number ('' = the next).
-- Returns: its number, as text; nil if the number is not above the last one. Kept are number and instant, doubles, and the body.
call('DEL', P .. 'nothing')
local journal = P .. 'journal:' .. ARGV[1]
local last = call('ZREVRANGE', journal, 0, 0, 'WITHSCORES')[2]
local number = ARGV[4] == '' and tonumber(last or 0) + 1 or tonumber(ARGV[4])
if last and number <= tonumber(last) then
  return false
end
call('ZADD', journal, number, struct.pack('<dd', number, now) .. ARGV[2])
call('ZREMRANGEBYRANK', journal, 0, -tonumber(ARGV[3]) - 1)
return string.format('%.0f', number)
