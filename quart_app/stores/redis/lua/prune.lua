-- {verb, {{status, count, age, size}, ...}, now, limit}: forget finished jobs, the first ones first.
local function forget(id, status)
  local value = raw(id)
  local _, _, o, _, _, size, about = cmsgpack.unpack_limit(value, 6, 1)
  local task, parent, key = about[1], about[2], about[3]
  local beside = tonumber(call('HGET', P .. 'beside:' .. id, 'bytes')) or 0
  call('DEL', P .. 'job:' .. id, P .. 'steps:' .. id, P .. 'log:' .. id, P .. 'beside:' .. id)
  call('ZREM', P .. 'ended:' .. status, id)
  call('ZREM', P .. 'in:' .. status, id)
  call('ZREM', P .. 'task:' .. task, id)
  call('ZREM', P .. 'seqs', id)
  call('HINCRBY', P .. 'tasks', status .. ':' .. task, -1)
  call('HINCRBY', P .. 'sizes', status, -(size + beside))
  if parent then call('ZREM', P .. 'parent:' .. parent, id) end
  if key then
    local field = unique_of(task, key)
    local known = call('HGET', P .. 'keys', field)
    if known then
      -- A key that was forgotten with another of its jobs may have been used again since.
      local _, _, first, count = cmsgpack.unpack_limit(known, 3, 0)
      if o >= first and o < first + count then call('HDEL', P .. 'keys', field) end
    end
  end
end

local function finished_at(id)
  local _, _, _, _, _, _, about = cmsgpack.unpack_limit(raw(id), 6, 1)
  return about[4] or 0
end

verbs.prune = function(a)
  local pruned, now, limit = 0, a[3], a[4]
  for _, keep_of in ipairs(a[2]) do
    local status, count, age, size = keep_of[1], keep_of[2], keep_of[3], keep_of[4]
    while pruned < limit do
      local id = call('ZRANGE', P .. 'ended:' .. status, 0, 0)[1]
      if not id then break end
      local many = call('ZCARD', P .. 'ended:' .. status) > count
      local large = (tonumber(call('HGET', P .. 'sizes', status)) or 0) > size
      if not (many or large or now - finished_at(id) > age) then break end
      forget(id, status)
      pruned = pruned + 1
    end
  end
  return pack(pruned)
end
