-- uses: clock value
-- Reads jobs. Args: ids.
-- Returns: now (a double) and the table's token, then the value of each, nil where there is none.
local found = values_of(ARGV)
table.insert(found, 1, pack('<d', now) .. token)
return found
