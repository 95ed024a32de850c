-- What is kept beside a job: steps, log lines; and facts, that belong to none.

-- {verb, id, name, step, attempt, bytes}
verbs.keep_step = function(a)
  local _, _, status, attempt = look(a[2])
  if status ~= 'running' or attempt ~= a[5] then return FALSE end
  local key = P .. 'steps:' .. a[2]
  if call('HSETNX', key, a[3], pack(call('HLEN', key)) .. a[4]) == 1 then
    grow(a[2], status, a[6])
  end
  return TRUE
end

-- {verb, id, lines, keep_lines, keep_bytes}; a line is {at, level, text, size}. The answer is the
-- seq and the number before those of the first line.
verbs.log = function(a)
  local id, key, beside = a[2], P .. 'log:' .. a[2], P .. 'beside:' .. a[2]
  local s, _, status = look(id)
  if not s then return FALSE end
  heads()
  local found = call('HMGET', beside, 'number', 'log')
  local number, before = tonumber(found[1]) or 0, tonumber(found[2]) or 0
  local answer, size = '\146' .. pack(seq, number), before
  for _, line in ipairs(a[3]) do
    seq, number = seq + 1, number + 1
    local member = '\150' .. pack(seq, number, line[1], line[2], line[3], line[4])
    size = size + line[4]
    call('ZADD', key, seq, member)
    tell(seq, 'l', pack('', 0) .. NIL .. pack(id) .. member)
  end
  local count = call('ZCARD', key)
  -- The newest stays in any case: from its number the next one's follows.
  while count > 1 and (count > a[4] or size > a[5]) do
    local _, line = cmsgpack.unpack_limit(call('ZPOPMIN', key)[1], 1, 0)
    size, count = size - line[6], count - 1
  end
  if count > 0 then call('HSET', beside, 'number', number, 'log', size) end
  grow(id, status, size - before)
  return answer
end

verbs.keep_fact = function(a)
  if a[3] then
    call('HSET', P .. 'facts', a[2], a[3])
  else
    call('HDEL', P .. 'facts', a[2])
  end
  return TRUE
end
