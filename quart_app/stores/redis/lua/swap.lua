-- {verb, id, seq, data, kind, before, after, attempt, task, turn, priority, run_at, expires, unique,
-- size, about}: put the next version of a job in the place of the one with this seq, or give false.
-- `expires` says that it cannot expire any more, `unique` is the key that it gives up.
verbs.swap = function(a)
  local id, data, before, after, task, turn = a[2], a[4], a[6], a[7], a[9], a[10]
  local s, o = look(id)
  if s ~= a[3] then return FALSE end
  heads()
  seq = seq + 1
  keep(id, seq, o, after, a[8], a[15] or 0, a[16], data)
  if before ~= after then
    call('ZREM', P .. 'in:' .. before, id)
    call('ZADD', P .. 'in:' .. after, o, id)
    call('HINCRBY', P .. 'tasks', before .. ':' .. task, -1)
    call('HINCRBY', P .. 'tasks', after .. ':' .. task, 1)
    if before == 'queued' then
      dequeue(task, turn, id)
    elseif before == 'scheduled' then
      call('ZREM', P .. 'scheduled', place(o, id))
    end
  end
  if after == 'queued' then
    enqueue(task, turn, score_of(a[11], seq), id)
  elseif after == 'scheduled' then
    call('ZADD', P .. 'scheduled', a[12] or 0, place(o, id))
  end
  if a[13] then call('ZREM', P .. 'expiring', place(o, id)) end
  if a[14] then call('HDEL', P .. 'unique', unique_of(task, a[14])) end
  if a[15] then
    local beside = tonumber(call('HGET', P .. 'beside:' .. id, 'bytes')) or 0
    call('ZADD', P .. 'ended:' .. after, seq, id)
    call('HINCRBY', P .. 'sizes', after, a[15] + beside)
  end
  call('ZADD', P .. 'seqs', seq, id)
  tell_job(seq, a[5], o, id, data)
  return pack(seq)
end
