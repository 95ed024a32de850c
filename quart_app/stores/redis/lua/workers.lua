-- Who is alive and who leads, by the clock of this server.
local function clock()
  local now = call('TIME')
  return tonumber(now[1]) + tonumber(now[2]) / 1000000
end

-- {verb, id, data, seconds}
verbs.beat = function(a)
  local now = clock()
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'alive', '-inf', now, 'LIMIT', 0, 100)) do
    call('ZREM', P .. 'alive', id)
    call('HDEL', P .. 'workers', id)
  end
  call('ZADD', P .. 'alive', now + a[4], a[2])
  call('HSET', P .. 'workers', a[2], a[3])
  return TRUE
end

verbs.leave = function(a)
  call('ZREM', P .. 'alive', a[2])
  call('HDEL', P .. 'workers', a[2])
  if call('GET', P .. 'leader') == a[2] then call('DEL', P .. 'leader') end
  return TRUE
end

verbs.workers = function()
  local parts = {}
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'alive', clock(), '+inf')) do
    local data = call('HGET', P .. 'workers', id)
    if data then parts[#parts + 1] = data end
  end
  return list(parts)
end

-- {verb, id, milliseconds}
verbs.lead = function(a)
  local leader = call('GET', P .. 'leader')
  if leader and leader ~= a[2] then return FALSE end
  call('SET', P .. 'leader', a[2], 'PX', a[3])
  return TRUE
end

-- {verb, version}: which version of these keys is here; this one where there is none. Every command
-- that writes is tried: a user who may not use one would leave half of something behind.
verbs.hello = function(a)
  local key = P .. 'trial'
  call('SET', key, 1, 'PX', 1000)
  call('GETRANGE', key, 0, 1)
  call('MSET', key, 1)
  call('DEL', key)
  call('ZADD', key, 1, 'a', 2, 'b')
  call('ZREM', key, 'a')
  call('ZPOPMIN', key)
  call('HSET', key, 'a', 1)
  call('HSETNX', key, 'a', 1)
  call('HINCRBY', key, 'a', 1)
  call('HDEL', key, 'a')
  call('XADD', key, 'MAXLEN', '~', 1, '1-0', 'a', '')
  call('DEL', key)
  call('SETNX', P .. 'version', a[2])
  return pack(call('GET', P .. 'version'))
end
