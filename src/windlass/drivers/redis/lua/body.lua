-- The body of a job, as value.py packs it. Where it begins in a value, and what of it names indexes, keys and gates.
-- Flags, in its first byte: 1 most, 2 timeout, 4 batch, 8 tick, 16 origin, 32 meta, 64 tags, 128 flow and terms.
local MORE = 128

-- Returns the place behind flow and terms, which come first.
local function behind_more(text, at)
  for _ = 1, byte(text, at) >= MORE and 2 or 0 do at = at + 4 + unpack_at('<I4', text, at + 1) end
  return at + 1
end

-- Returns what must hold a job back ({holds, gates, fair = the key by which it takes turns}, decoded), whose body begins at *at*;
-- nil for most jobs.
local function flow_in(text, at)
  if byte(text, at) < MORE then
    return nil
  end
  local length = unpack_at('<I4', text, at + 1)
  if length == 0 then
    return nil
  end
  local flow = cjson.decode(sub(text, at + 5, at + 4 + length))
  for n, spec in ipairs(flow[2]) do
    if sub(spec[1], 1, 5) == 'fair:' then
      flow.fair = spec[1]
      table.remove(flow[2], n)
      break
    end
  end
  return flow
end

local batch_names = {}

-- Returns the id of the batch, as text.
local function batch_in(text, at)
  local flags = byte(text, at)
  if flags % 8 < 4 then
    return nil
  end
  at = behind_more(text, at) + (flags % 2 >= 1 and 4 or 0) + (flags % 4 >= 2 and 8 or 0)
  local packed = sub(text, at, at + 7)
  local name = batch_names[packed]
  if not name then
    name = string.format('%.0f', (unpack_at('<d', packed)))
    batch_names[packed] = name
  end
  return name
end

-- Returns the keys of the sorted sets of its batch, origin and tags.
local function named_by(body)
  local flags = byte(body, 1)
  local keys, texts = {}, {}
  if flags % MORE < 4 then
    return keys
  end
  local at = behind_more(body, 1)
  if flags % 2 >= 1 then at = at + 4 end
  if flags % 4 >= 2 then at = at + 8 end
  if flags % 8 >= 4 then
    keys[1] = P .. 'member:' .. string.format('%.0f', (unpack_at('<d', body, at)))
    at = at + 8
  end
  if flags % 16 >= 8 then at = at + 8 end
  for n = 1, 3 do
    local bit_ = 8 * 2 ^ n
    if flags % (2 * bit_) >= bit_ then
      local length = unpack_at('<I4', body, at)
      texts[n] = sub(body, at + 4, at + 3 + length)
      at = at + 4 + length
    end
  end
  if texts[1] then keys[#keys + 1] = P .. 'origin:' .. texts[1] end
  if texts[3] then
    for _, tag in ipairs(cjson.decode(texts[3])) do keys[#keys + 1] = P .. 'tag:' .. tag end
  end
  return keys
end
