-- What all verbs share. A script is this file, the verbs, and `main.lua`.
-- Every key begins with the prefix of KEYS[1], so all are in one slot of a cluster.
local call, pack = redis.call, cmsgpack.pack
local P = string.sub(KEYS[1], 1, -4) -- without 'seq'
local NIL, TRUE, FALSE = '\192', '\195', '\194'
local STATUSES = {'scheduled', 'queued', 'running', 'succeeded', 'failed', 'canceled'}
local STREAM = 10000 -- entries of the stream of events, about
local TRAVELS = 8192 -- bytes of a job's data that goes with its event
local STEP = 35184372088832 -- 2^45: what one step of priority counts, in seqs
local verbs = {}
local seq, order, read_seq, read_order -- the newest numbers, once read; as they were read
local told -- the newest seq that was told

local function heads()
  if not seq then
    local found = call('MGET', P .. 'seq', P .. 'order')
    seq, order = tonumber(found[1]) or 0, tonumber(found[2]) or 0
    read_seq, read_order = seq, order
  end
end

-- A MessagePack array of parts that are MessagePack already.
local function list(parts)
  local n = #parts
  local head
  if n < 16 then
    head = string.char(144 + n)
  elseif n < 65536 then
    head = struct.pack('>BI2', 220, n)
  else
    head = struct.pack('>BI4', 221, n)
  end
  return head .. table.concat(parts)
end

local function bin(bytes)
  local n = #bytes
  if n < 256 then return struct.pack('>BB', 196, n) .. bytes end
  if n < 65536 then return struct.pack('>BI2', 197, n) .. bytes end
  return struct.pack('>BI4', 198, n) .. bytes
end

local function text(number) return string.format('%.0f', number) end

-- Bytes that a page of an answer may have before it is cut; one job is always in it.
local function room(cap) return {left = cap} end
local function fits(page, bytes)
  local any = page.left > 0
  page.left = page.left - bytes
  return any
end

-- A job's key holds [seq, order, status, attempt, size, [task, parent, key, finished_at], data]; size
-- is that of a finished one. What is in the data only Python knows.
local function keep(id, s, o, status, attempt, size, about, data)
  call('SET', P .. 'job:' .. id, '\151' .. pack(s, o, status, attempt, size) .. about .. data)
end

local function look(id)
  local head = call('GETRANGE', P .. 'job:' .. id, 0, 63)
  if head == '' then return nil end
  local _, s, o, status, attempt, size = cmsgpack.unpack_limit(head, 5, 1)
  return s, o, status, attempt, size
end

local function raw(id) return call('GET', P .. 'job:' .. id) end

-- The jobs of some ids, as many as there is room for; those that are gone are left out.
local function jobs_of(ids, cap)
  local page, found, looked = room(cap), {}, 0
  for _, id in ipairs(ids) do
    local job = raw(id)
    if job then
      if not fits(page, #job) then break end
      found[#found + 1] = job
    end
    looked = looked + 1
  end
  return found, looked
end

-- Equal moments come in the order in which the jobs were opened.
local function place(o, id) return string.format('%015.0f', o) .. id end
local function id_of(member) return string.sub(member, 16) end

local function turn_key(task, turn) return P .. 'turn:' .. #task .. ':' .. task .. ':' .. turn end
local function unique_of(task, unique) return #task .. ':' .. task .. ':' .. unique end

local function set_head(task, turn)
  local first = call('ZRANGE', turn_key(task, turn), 0, 0, 'WITHSCORES')
  if first[1] then
    call('ZADD', P .. 'turns:' .. task, first[2], turn)
  else
    call('ZREM', P .. 'turns:' .. task, turn)
  end
end

local function score_of(priority, s) return (100 - priority) * STEP + s end

-- Jobs without a turn are in 'queue'; the others in 'turned', and in the queue of their turn.
local function enqueue(task, turn, score, id)
  if not turn then
    call('ZADD', P .. 'queue:' .. task, score, id)
    return
  end
  call('ZADD', P .. 'turned:' .. task, score, pack(id, turn))
  call('ZADD', turn_key(task, turn), score, id)
  set_head(task, turn)
end

local function dequeue(task, turn, id)
  if not turn then
    call('ZREM', P .. 'queue:' .. task, id)
    return
  end
  call('ZREM', P .. 'turned:' .. task, pack(id, turn))
  call('ZREM', turn_key(task, turn), id)
  set_head(task, turn)
end

local function tell(s, field, value)
  call('XADD', P .. 'events', 'MAXLEN', '~', STREAM, text(s) .. '-0', field, value)
  told = s
end

local function tell_job(s, kind, o, id, data)
  if #data <= TRAVELS then
    tell(s, 'e', pack(kind, o) .. data)
  else
    tell(s, 'b', pack(kind, id))
  end
end

local function grow(id, status, bytes)
  if bytes == 0 then return end
  call('HINCRBY', P .. 'beside:' .. id, 'bytes', bytes)
  if call('ZSCORE', P .. 'ended:' .. status, id) then call('HINCRBY', P .. 'sizes', status, bytes) end
end
