-- Every script begins with this. KEYS[1] is the key of meta, and names the node; P begins all other keys. KEYS[2] is never
-- there: a Cluster that is moving our slot, key after key, refuses a script that names a key which is not on that node. Else
-- it would be carried out on a part of the keys, and what it makes anew would be overwritten by what arrives later.
-- now: the store's time, seconds; micros: the server's own, which is never shifted.
local call = redis.call
local P = string.sub(KEYS[1], 1, -5)
local time = call('TIME')
local micros = time[1] * 1000000 + time[2]
local meta = call('HMGET', KEYS[1], 'shift', 'table', 'lease', 'minute', 'wide', 'look', 'ears', 'ripe', 'stamp', 'fair')
local now = micros / 1000000 + (meta[1] and tonumber(meta[1]) or 0)
local token = meta[2] or ''
