-- uses: clock
-- Looks at the store. Args: the schema's version, 1 to make it. Returns: now and the token, the version found.
local found = call('HGET', KEYS[1], 'version')
if not found and ARGV[2] == '1' then
  call('HSET', KEYS[1], 'version', ARGV[1])
end
return {struct.pack('<d', now) .. token, tonumber(found or 0)}
