-- uses: clock batch_row
-- Reads batches. Args: ids. Returns: now (a double), and each that there is.
local found = {struct.pack('<d', now)}
for _, id in ipairs(ARGV) do found[#found + 1] = batch_row(id) end
return found
