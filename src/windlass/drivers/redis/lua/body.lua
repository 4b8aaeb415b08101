-- The body of a job, as value.py packs it: what names the indexes that the job is in beside those of its stream.
-- Returns the keys of the sorted sets of its batch, origin and tags, and its idempotency key.
local function named_by(body)
  local flags, at = byte(body, 1), 2
  local keys, texts = {}, {}
  if flags < 4 then
    return keys
  end
  if flags % 2 >= 1 then at = at + 4 end
  if flags % 4 >= 2 then at = at + 8 end
  if flags % 8 >= 4 then
    keys[1] = P .. 'batch:' .. string.format('%.0f', (unpack_at('<d', body, at)))
    at = at + 8
  end
  if flags % 16 >= 8 then at = at + 8 end
  for n = 1, 4 do
    local bit = 8 * 2 ^ n
    if flags % (2 * bit) >= bit then
      local length = unpack_at('<I4', body, at)
      texts[n] = sub(body, at + 4, at + 3 + length)
      at = at + 4 + length
    end
  end
  if texts[1] then keys[#keys + 1] = P .. 'origin:' .. texts[1] end
  if texts[3] then
    for _, tag in ipairs(cjson.decode(texts[3])) do keys[#keys + 1] = P .. 'tag:' .. tag end
  end
  return keys, texts[4]
end
