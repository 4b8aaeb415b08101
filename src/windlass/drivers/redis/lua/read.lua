-- uses: clock value
-- Reads jobs. Args: ids.
-- Returns: now (a double) and the table's token, the value of each, and what each has reported; nil where there is none.
local told = #ARGV > 0 and call('EXISTS', P .. 'progress') == 1 and call('HMGET', P .. 'progress', unpack(ARGV)) or {}
return {pack('<d', now) .. token, values_of(ARGV), told}
