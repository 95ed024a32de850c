-- What only looks. Answers about many jobs are cut where they grow beyond `cap` bytes.
verbs.get = function(a) return raw(a[2]) or NIL end

verbs.active = function(a)
  local id = call('HGET', P .. 'unique', unique_of(a[2], a[3]))
  return id and raw(id) or NIL
end

verbs.oldest = function()
  local id = call('ZRANGE', P .. 'in:queued', 0, 0)[1]
  return id and raw(id) or NIL
end

local function newest_of(sets, before, count)
  local found = {}
  for _, set in ipairs(sets) do
    local rows = call(
      'ZREVRANGEBYSCORE', set, before, '-inf', 'WITHSCORES', 'LIMIT', 0, count)
    for at = 1, #rows, 2 do found[#found + 1] = {rows[at], tonumber(rows[at + 1])} end
  end
  if #sets > 1 then table.sort(found, function(one, other) return one[2] > other[2] end) end
  return found
end

-- {verb, statuses, task, parent, before, count, cap}: jobs of the smallest set, the newest first, and
-- the order after which to go on, or nil at the end.
verbs.page = function(a)
  local sets, size = {}, 0
  for _, status in ipairs(#a[2] > 0 and a[2] or STATUSES) do
    sets[#sets + 1] = P .. 'in:' .. status
    size = size + call('ZCARD', sets[#sets])
  end
  if a[4] then
    sets = {P .. 'parent:' .. a[4]}
  elseif a[3] and call('ZCARD', P .. 'task:' .. a[3]) <= size then
    sets = {P .. 'task:' .. a[3]}
  end
  local rows = newest_of(sets, a[5] and '(' .. text(a[5]) or '+inf', a[6])
  local ids = {}
  for at = 1, math.min(a[6], #rows) do ids[at] = rows[at][1] end
  local found, looked = jobs_of(ids, a[7])
  local more = looked < #ids or #rows >= a[6]
  return '\146' .. list(found) .. (more and pack(rows[looked][2]) or NIL)
end

-- {verb, after, limit, cap}: jobs by their newest seq.
verbs.events = function(a)
  local ids = call('ZRANGEBYSCORE', P .. 'seqs', '(' .. text(a[2]), '+inf', 'LIMIT', 0, a[3])
  return list((jobs_of(ids, a[4])))
end

-- {verb, name, now, offset, limit, cap}: the jobs of a set by moments, and how many were looked at.
verbs.until_now = function(a)
  local members = call('ZRANGEBYSCORE', P .. a[2], '-inf', a[3], 'LIMIT', a[4], a[5])
  local ids = {}
  for at, member in ipairs(members) do ids[at] = id_of(member) end
  local found, looked = jobs_of(ids, a[6])
  return '\146' .. list(found) .. pack(looked)
end

local function waiting(score, id, turn) return {tonumber(score), pack(id), turn or NIL} end

local function waiting_list(found, limit)
  local parts = {}
  for at = 1, math.min(limit, #found) do
    local one = found[at]
    parts[at] = '\147' .. pack(one[1]) .. one[2] .. one[3]
  end
  return list(parts)
end

-- {verb, task, limit}: [score, id, turn] in the order of the queue.
verbs.queued = function(a)
  local found = {}
  local rows = call('ZRANGE', P .. 'queue:' .. a[2], 0, a[3] - 1, 'WITHSCORES')
  for at = 1, #rows, 2 do found[#found + 1] = waiting(rows[at + 1], rows[at]) end
  rows = call('ZRANGE', P .. 'turned:' .. a[2], 0, a[3] - 1, 'WITHSCORES')
  for at = 1, #rows, 2 do found[#found + 1] = {tonumber(rows[at + 1]), rows[at], ''} end
  if #rows > 0 then table.sort(found, function(one, other) return one[1] < other[1] end) end
  return waiting_list(found, a[3])
end

-- {verb, task, limit}: the same, the first of each turn before any turn's second.
verbs.fair = function(a)
  local task, limit, queues = a[2], a[3], {}
  local first = call('ZRANGE', P .. 'queue:' .. task, 0, 0, 'WITHSCORES')
  if first[1] then queues[1] = {P .. 'queue:' .. task, NIL, tonumber(first[2])} end
  local turns = call('ZRANGE', P .. 'turns:' .. task, 0, limit - 1, 'WITHSCORES')
  for at = 1, #turns, 2 do
    queues[#queues + 1] = {turn_key(task, turns[at]), pack(turns[at]), tonumber(turns[at + 1])}
  end
  table.sort(queues, function(one, other) return one[3] < other[3] end)
  local found, from, any, each = {}, 0, true, math.max(1, math.ceil(limit / math.max(1, #queues)))
  while any and #found < limit do
    any = false
    local rows = {}
    for at, queue in ipairs(queues) do
      rows[at] = call('ZRANGE', queue[1], from, from + each - 1, 'WITHSCORES')
      any = any or #rows[at] > 0
    end
    for nth = 1, 2 * each, 2 do
      for at, queue in ipairs(queues) do
        local id = rows[at][nth]
        if id then found[#found + 1] = waiting(rows[at][nth + 1], id, queue[2]) end
      end
    end
    from = from + each
  end
  return waiting_list(found, limit)
end

verbs.steps = function(a)
  local rows, parts = call('HGETALL', P .. 'steps:' .. a[2]), {}
  for at = 1, #rows, 2 do
    parts[#parts + 1] = '\147' .. pack(rows[at]) .. rows[at + 1]
  end
  return list(parts)
end

verbs.logs = function(a)
  local after = '(' .. text(a[3])
  return list(call('ZRANGEBYSCORE', P .. 'log:' .. a[2], after, '+inf', 'LIMIT', 0, a[4]))
end

verbs.facts = function(a)
  local rows, parts, prefix = call('HGETALL', P .. 'facts'), {}, a[2]
  for at = 1, #rows, 2 do
    if string.sub(rows[at], 1, #prefix) == prefix then
      parts[#parts + 1] = '\146' .. pack(rows[at]) .. bin(rows[at + 1])
    end
  end
  return list(parts)
end

verbs.counts = function()
  local counts = {}
  for at, status in ipairs(STATUSES) do counts[at] = call('ZCARD', P .. 'in:' .. status) end
  return pack(counts)
end

verbs.tasks = function()
  local rows, parts = call('HGETALL', P .. 'tasks'), {}
  for at = 1, #rows, 2 do
    parts[#parts + 1] = '\146' .. pack(rows[at], tonumber(rows[at + 1]))
  end
  return list(parts)
end

verbs.position = function()
  heads()
  return pack(seq)
end

-- {verb, after, limit, cap}: [missed, seq, what was told after this one]. Each seq has an entry, so
-- one that is missing was trimmed. What did not travel is read here; a version that has been
-- overtaken is left out: the newest has an entry of its own.
verbs.heard = function(a)
  heads()
  local after, parts, page = a[2], {}, room(a[4])
  if after > seq then return '\147' .. TRUE .. pack(seq) .. '\144' end -- it was put back
  local rows = call('XRANGE', P .. 'events', text(after + 1), '+', 'COUNT', a[3])
  local missed, last = false, after
  for at, row in ipairs(rows) do
    local number = string.match(row[1], '^%d+')
    local s, field, value = tonumber(number), row[2][1], row[2][2]
    if field == 'b' then
      local _, kind, id = cmsgpack.unpack_limit(value, 2, 0)
      local job = raw(id)
      value = nil
      if job then
        local next, newest, o = cmsgpack.unpack_limit(job, 6, 1)
        if newest == s then value = pack(kind, o) .. string.sub(job, next + 1) end
      end
    end
    if value and not fits(page, #value) then break end
    if at == 1 and s ~= after + 1 then missed = true end
    last = s
    if value then
      parts[#parts + 1] = (field == 'l' and '\150' or '\148') .. pack(s) .. value
    end
  end
  if #rows == 0 and after < seq then missed, last = true, seq end
  return '\147' .. (missed and TRUE or FALSE) .. pack(last) .. list(parts)
end
