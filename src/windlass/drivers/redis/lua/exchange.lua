-- uses: clock value | count place ring minute body keys(holds) batches(batches) gates(gates) turns(turns) new(store) fault signal move claim
-- One turn of a worker's pump: settles, marks starts, promotes what is due, claims, brings signals.
-- Args: worker, 1 if it has beaten, class, limit, start, cautious, deadline ('' = none), number of completions, of moves, of
--   starts, when the first of the completed ended, number of parts of the demand (0 = what the class takes), of the streams of jobs
--   that ends bring; then
--   for each completion under a lease of this worker: id, lease and finished_at (doubles), tail;
--   for each move: id, fence, op, head, tail, past; for each start: id, fence; for each part: class, limit;
--   the name of each stream; for each end that brings jobs: its position, their number, the two words of each (see store).
-- Returns: {now and due (doubles) and three letters: 1 known, 0 lost, f forgotten; 1 stale class; 1 somebody listens; then the
--   schedules' stamp, a semicolon and the table's token}, the positions of what was refused, signals, id and value of each claim, and batches to decide about.
call('DEL', P .. 'nothing') -- may always be done; what follows a first write is not refused for lack of memory
local worker, class, limit = ARGV[1], ARGV[3], tonumber(ARGV[4])
local completions, moves, starts = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local first_end, n_parts, n_streams = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local at, refused, ids = 13, {}, {}
local moves_at = at + completions * 4
local starts_at = moves_at + moves * 6
local parts_at = starts_at + starts * 2

for n = 1, completions do ids[n] = ARGV[at + n * 4 - 3] end
for n = 1, moves do ids[completions + n] = ARGV[moves_at + n * 6 - 5] end
for n = 1, starts do ids[completions + moves + n] = ARGV[starts_at + n * 2 - 1] end
local values = values_of(ids)
local seen = {}

local function live(id, v, fence)
  return v and byte(v, 1) == R and not seen[id] and sub(v, 76, 75 + #fence) == fence
end

-- Where the jobs are spelt that each end brings, and how many there are.
local bring = {}
if n_streams > 0 then
  local place = parts_at + 2 * n_parts + 1
  new().know_streams(place, n_streams)
  place = place + n_streams
  while place <= #ARGV do
    local n = tonumber(ARGV[place + 1])
    bring[tonumber(ARGV[place])] = {place + 2, n}
    place = place + 2 + 2 * n
  end
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

-- Does what most ends have no need of. Returns true when another job has a key that this one would have to take: then all is done.
local function end_of_flow(id, v, body, finished, tail)
  local s, flow = stream_of(v), flow_in(v, body)
  if flow and keys().rival_of(id, flow, 'r', 'c') then
    move(id, v, 'cy:P', sub(v, 14, 45) .. finished .. Z8 .. '\0c', tail, '', false, '')
    return true
  end
  if flow or meta[5] then gates().give_back(id, s, flow) end
  if flow then keys().pass_keys(id, unpack_at('<d', v, 6), flow, 'r', 'c') end
  local batch = batch_in(v, body)
  if batch then batches().count_member(batch, 'r', 'c') end
end

local name = char(#worker) .. worker
local body_at, wide = 84 + #name, meta[5]
local ending = Z8 .. '\0c' -- no deadline, flags, how it ended
local released = completions > 0 and list(releasing, P .. 'held:' .. worker)
for n = 1, completions do
  local base = at + n * 4 - 3
  local id, v = ids[n], values[n]
  -- find looks at that place without making a text of it, each of which is hashed byte by byte
  if v and byte(v, 1) == R and not seen[id] and find(v, ARGV[base + 1], 76, true) == 76 and find(v, name, 84, true) == 84 then
    seen[id] = true
    local finished, tail, s = ARGV[base + 2], ARGV[base + 3], stream_of(v)
    if n_streams > 0 and bring[n] then new().draw_and_store(bring[n][1], bring[n][2]) end
    if not ((byte(v, body_at) >= 4 or wide) and end_of_flow(id, v, body_at, finished, tail)) then
      local m = #setting
      if tail == '' and byte(v, 62) < 2 then
        setting[m + 2] = 'c' .. sub(v, 2, 45) .. finished .. ending .. sub(v, 64)
      else
        setting[m + 2] = completed(v, finished, tail)
      end
      setting[m + 1] = id
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
    end
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
    local jobs = bring[completions + n]
    if jobs then new().draw_and_store(jobs[1], jobs[2]) end
    move(id, v, ARGV[base + 2], ARGV[base + 3], ARGV[base + 4], ARGV[base + 5], false, '')
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
local promotes = due and due <= now
if promotes then promote() end
if made_gates or meta[6] and tonumber(meta[6]) <= now then
  gates().reopen()
  gates().admit()
end
if promotes or next(filled) then write_places() end

local card = call('HGET', P .. 'worker', worker)
local known = not (card and byte(card, 17) == 108)
-- A server that has lost its memory knows no worker: what one claimed now, others would take back as nobody's.
local forgotten = not card and ARGV[2] == '1'
local demand = {worker = worker, start = tonumber(ARGV[5]), cautious = tonumber(ARGV[6]), deadline = ARGV[7], n = 0, claims = {},
  aside = 0, early = 0}

local function takes_of(hash, name_)
  local takes = call('HGET', P .. hash, name_)
  return takes and sub(takes, 1, #token + 1) == token .. ';' and takes
end

-- Returns what each part of the demand takes; nil if one of them, or the class, knows too few streams.
local function parts_of_demand()
  local own = takes_of('class', class)
  local wanted = {n_parts == 0 and {takes = own, limit = limit} or nil}
  for n = 1, n_parts do
    local base = parts_at + 2 * n - 1
    wanted[n] = {takes = takes_of('part', ARGV[base]), limit = tonumber(ARGV[base + 1])}
    own = own and wanted[n].takes
  end
  return own and wanted or nil
end

local wanted = limit > 0 and known and not forgotten and parts_of_demand()
if wanted then claim(wanted, class, limit, demand) end

local open = write_rest()
if promotes then due = first_due() end
if meta[6] then due = min(due or math.huge, tonumber(meta[6])) end
if demand.aside >= ASIDE then due = now end
if made_new and new().sooner or #open > 0 then
  ring()
elseif next(woken) then
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
local heard = meta[7] and tonumber(meta[7]) > micros / 1000000
local state = (forgotten and 'f' or known and '1' or '0') .. (wanted == nil and '1' or '0') .. (heard and '1' or '0')
return {now8 .. pack('<d', due or 0) .. state .. (meta[9] or '') .. ';' .. token, refused, signals, demand.claims,
  meta[8] and call('ZRANGE', P .. 'ripe', 0, 99) or {}}
