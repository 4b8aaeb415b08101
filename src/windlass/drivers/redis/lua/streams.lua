-- uses: clock
-- Reads the table of streams. Returns: its token, then number and name of each.
local found = call('HGETALL', P .. 'streams')
table.insert(found, 1, token)
return found
