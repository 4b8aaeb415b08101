-- uses: clock value | count place keys(holds)
-- Finds who has a unique key now. Args: key. Returns: the job's id, or nil.
return keys().holder_of(ARGV[1], nil) or false
