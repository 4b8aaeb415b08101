-- uses: clock value count place ring body move claim
-- One turn of a worker's pump: settles, marks starts, promotes what is due, claims, brings signals.
-- Args: worker, 1 if it has beaten, class, limit, start, cautious, deadline ('' = none), number of completions, of moves, of
--   starts, when the first of the completed ended; then
--   for each completion under a lease of this worker: id, lease and finished_at (doubles), tail;
--   for each move: id, fence, op, head, tail, past; for each start: id, fence.
-- Returns: {now and due (doubles) and two letters: 1 known, 0 lost, f forgotten; 1 stale class; then the table's token},
--   the positions of what was refused, signals, and id, value of each claim.
call('DEL', P .. 'nothing') -- may always be done; what follows a first write is not refused for lack of memory
local worker, class, limit = ARGV[1], ARGV[3], tonumber(ARGV[4])
local completions, moves, starts = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local first_end = tonumber(ARGV[11])
local at, refused, ids = 11, {}, {}
local moves_at = at + completions * 4
local starts_at = moves_at + moves * 6

for n = 1, completions do ids[n] = ARGV[at + n * 4 - 3] end
for n = 1, moves do ids[completions + n] = ARGV[moves_at + n * 6 - 5] end
for n = 1, starts do ids[completions + moves + n] = ARGV[starts_at + n * 2 - 1] end
local values = values_of(ids)
local seen = {}

local function live(id, v, fence)
  return v and byte(v, 1) == R and not seen[id] and sub(v, 76, 75 + #fence) == fence
end

-- The usual end, by the shortest way: what move does, with the lists looked up once for each stream and worker.
local ends = {}
local function ends_of(s)
  local of = {filed = {}, firsts = list(filing, s .. ':c'), n = 0}
  ends[s] = of
  return of
end

local function bucket_in(of, s, number)
  local ids = list(holding, bucket(s .. ':c', number))
  of.filed[number], of.firsts[number] = ids, first_end
  return ids
end

-- Returns the value of a job that ended well and has, or had, an error or a result: the last error stays.
local function completed(v, finished, tail)
  local worker_name, body = parts(v)
  local errors = '\0\0\0\0'
  if byte(v, 62) % 4 >= 2 then
    local first = 85 + byte(v, 84) + #body
    errors = sub(v, first, first + 3 + unpack_at('<I4', v, first))
  end
  local results = sub(tail, 5)
  local there = #errors > 4 or results ~= ''
  return 'c' .. sub(v, 2, 45) .. finished .. Z8 .. (there and '\2c' or '\0c') .. sub(v, 64, 83) .. worker_name .. body
    .. (there and errors .. results or '')
end

local name = char(#worker) .. worker
local ending = Z8 .. '\0c' -- no deadline, flags, how it ended
local released = completions > 0 and list(releasing, P .. 'held:' .. worker)
for n = 1, completions do
  local base = at + n * 4 - 3
  local id, v = ids[n], values[n]
  -- find looks at that place without making a text of it, each of which is hashed byte by byte
  if v and byte(v, 1) == R and not seen[id] and find(v, ARGV[base + 1], 76, true) == 76 and find(v, name, 84, true) == 84 then
    seen[id] = true
    local finished, tail, m = ARGV[base + 2], ARGV[base + 3], #setting
    if tail == '' and byte(v, 62) < 2 then
      setting[m + 2] = 'c' .. sub(v, 2, 45) .. finished .. ending .. sub(v, 64)
    else
      setting[m + 2] = completed(v, finished, tail)
    end
    setting[m + 1] = id
    local s = stream_of(v)
    if byte(v, 61) ~= 0 then -- the highest byte of a deadline: claimed by hand
      depart(id, v, s)
    else
      released[#released + 1] = id
    end
    local of = ends[s] or ends_of(s)
    local number = bucket_of(id)
    local filed = of.filed[number] or bucket_in(of, s, number)
    filed[#filed + 1] = id
    of.n = of.n + 1
  else
    refused[#refused + 1] = n
  end
end
if completions > 0 then holders[worker] = true end
for s, of in pairs(ends) do
  add(s, 'r', -of.n)
  add(s, 'c', of.n)
  add(s, 'P', of.n)
end

for n = 1, moves do
  local base = moves_at + n * 6 - 5
  local id, v = ids[completions + n], values[completions + n]
  if live(id, v, ARGV[base + 1]) then
    seen[id] = true
    move(id, v, ARGV[base + 2], ARGV[base + 3], ARGV[base + 4], ARGV[base + 5], false)
  else
    refused[#refused + 1] = completions + n
  end
end

local now8 = pack('<d', now)
local begun = {}
for n = 1, starts do
  local id, v = ids[completions + moves + n], values[completions + moves + n]
  if not live(id, v, ARGV[starts_at + n * 2]) or byte(v, 62) % 2 == 1 then
    refused[#refused + 1] = completions + moves + n
  elseif sub(v, 38, 45) == Z8 and not begun[id] then
    begun[id] = true
    set(id, sub(v, 1, 17) .. pack('<I4', unpack_at('<I4', v, 18) + 1) .. sub(v, 22, 37) .. now8 .. sub(v, 46))
  end
end
write_places()

local due = first_due()
if due and due <= now then
  promote()
  write_places()
  due = first_due()
end

local card = call('HGET', P .. 'worker', worker)
local known = not (card and byte(card, 17) == 108)
-- A server that has lost its memory knows no worker: what one claimed now, others would take back as nobody's.
local forgotten = not card and ARGV[2] == '1'
local stale, claims = false, {}
if limit > 0 and known and not forgotten then
  local takes = call('HGET', P .. 'class', class)
  if takes and sub(takes, 1, #token + 1) == token .. ';' then
    claims = claim(takes, worker, class, limit, tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7])
  else
    stale = true
  end
end

write_holders() -- at last: who has claimed again is still one
write_counts()
if next(woken) then
  local left = {}
  for s in pairs(woken) do
    if call('ZSCORE', P .. 'avail', s) then left[s] = true end
  end
  if next(left) then ring(left) end
end
local signals = {}
if known then
  signals = call('SMEMBERS', P .. 'mail:' .. worker)
  if #signals > 0 then call('DEL', P .. 'mail:' .. worker) end
end
local state = forgotten and 'f' or known and '1' or '0'
local head = now8 .. pack('<d', due or 0) .. state .. (stale and '1' or '0')
return {head .. token, refused, signals, claims}
