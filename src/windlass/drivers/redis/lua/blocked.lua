-- uses: clock value | count place body gates(gates)
-- Finds the gate that a pending job waits before. Args: id. Returns: its key, or nil.
local id = ARGV[1]
local v = values_of({id})[1]
local letter = v and byte(v, 1)
local flow = (letter == N or letter == P_) and flow_in(v, body_of(v))
for _, spec in ipairs(flow and flow[2] or {}) do
  local seq = letter == N and tonumber(id) or unpack_at('<d', v, 68)
  if call('ZSCORE', P .. 'blocked:' .. spec[1], gates().waiter(id, stream_of(v), seq)) then
    return spec[1]
  end
end
return false
