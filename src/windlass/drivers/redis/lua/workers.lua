-- uses: clock
-- Reads the workers. Returns: now and the token, then name and card of each.
local found = call('HGETALL', P .. 'worker')
table.insert(found, 1, struct.pack('<d', now) .. token)
return found
