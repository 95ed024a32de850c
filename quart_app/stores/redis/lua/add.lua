-- {verb, task, max_waiting, max_of_task, key, fingerprint, jobs, staged}: keep new jobs, all or none.
-- A job is {id, data, status, turn, priority, run_at, expires_at, unique, parent, about}. The answer is
-- [0, order, seq] for new ones only, numbered from there on; [1, waiting] and [2, waiting] for too
-- many, [3, _, _, id] for a key that was used otherwise, [4, _, _, _, jobs] for a known one, and
-- [5, order, seq, _, places] for a mixture: 0 is new, a number is the same as that one of these.
local function known_jobs(task, key, fingerprint)
  local known = call('HGET', P .. 'keys', unique_of(task, key))
  if not known then return nil end
  local _, mark, first, count, id = cmsgpack.unpack_limit(known, 4, 0)
  if mark ~= fingerprint then return '\148' .. pack(3, 0, 0, id) end
  local ids = call('ZRANGEBYSCORE', P .. 'task:' .. task, first, first + count - 1)
  return '\149' .. pack(4, 0, 0) .. NIL .. list((jobs_of(ids, math.huge)))
end

-- Which of these are new, and what stands in the place of each of the others.
local function places_of(task, jobs)
  local places, named, fresh = nil, {}, #jobs
  for at, job in ipairs(jobs) do
    if job[8] then
      local field = unique_of(task, job[8])
      local id = call('HGET', P .. 'unique', field)
      local other = named[field] and pack(named[field]) or (id and raw(id))
      named[field] = named[field] or at
      if other then
        places = places or {}
        places[at], fresh = other, fresh - 1
      end
    end
  end
  return places, fresh
end

local function too_many(task, fresh, max_waiting, max_of_task)
  local waiting = call('ZCARD', P .. 'in:queued') + call('ZCARD', P .. 'in:scheduled')
  if waiting + fresh > max_waiting then return '\146' .. pack(1, waiting) end
  if max_of_task then
    local mine = call('HMGET', P .. 'tasks', 'queued:' .. task, 'scheduled:' .. task)
    waiting = (tonumber(mine[1]) or 0) + (tonumber(mine[2]) or 0)
    if waiting + fresh > max_of_task then return '\146' .. pack(2, waiting) end
  end
end

local function insert(task, job, index, turns)
  local id, data, status, turn = job[1], job[2], job[3], job[4]
  order, seq = order + 1, seq + 1
  keep(id, seq, order, status, 0, 0, job[10], data)
  index('in:' .. status, order, id)
  index('task:' .. task, order, id)
  index('seqs', seq, id)
  if job[9] then index('parent:' .. job[9], order, id) end
  if job[7] then index('expiring', job[7], place(order, id)) end
  if job[8] then call('HSET', P .. 'unique', unique_of(task, job[8]), id) end
  if status == 'scheduled' then
    index('scheduled', job[6] or 0, place(order, id))
  elseif turn then
    local score = score_of(job[5], seq)
    index('turned:' .. task, score, pack(id, turn))
    index('turn:' .. #task .. ':' .. task .. ':' .. turn, score, id)
    turns[turn] = true
  else
    index('queue:' .. task, score_of(job[5], seq), id)
  end
  tell_job(seq, 'open', order, id, data)
end

local function staged_jobs(keys)
  local jobs = {}
  for _, key in ipairs(keys) do
    local part = call('GET', P .. key)
    if not part then return nil end
    for _, job in ipairs(cmsgpack.unpack(part)) do jobs[#jobs + 1] = job end
  end
  for _, key in ipairs(keys) do call('DEL', P .. key) end
  return jobs
end

local function insert_all(task, jobs, places)
  local sets, turns, of_status = {}, {}, {}
  local function index(name, score, member)
    local set = sets[name]
    if not set then
      set = {}
      sets[name] = set
    end
    set[#set + 1] = score
    set[#set + 1] = member
  end
  for at, job in ipairs(jobs) do
    if not (places and places[at]) then
      insert(task, job, index, turns)
      of_status[job[3]] = (of_status[job[3]] or 0) + 1
    end
  end
  for name, set in pairs(sets) do
    for at = 1, #set, 1000 do
      call('ZADD', P .. name, unpack(set, at, math.min(at + 999, #set)))
    end
  end
  for turn in pairs(turns) do set_head(task, turn) end
  for status, count in pairs(of_status) do
    call('HINCRBY', P .. 'tasks', status .. ':' .. task, count)
  end
end

verbs.add = function(a)
  local task, key, jobs = a[2], a[5], a[7]
  if key then
    local known = known_jobs(task, key, a[6])
    if known then return known end
  end
  jobs = jobs or staged_jobs(a[8])
  if not jobs then return '\146' .. pack(6, 0) end
  heads()
  local places, fresh = places_of(task, jobs)
  if fresh > 0 then
    local refusal = too_many(task, fresh, a[3], a[4])
    if refusal then return refusal end
  end
  local first, first_seq = order, seq
  insert_all(task, jobs, places)
  if key and fresh == #jobs then
    local entry = pack(a[6], first + 1, #jobs, jobs[1][1])
    call('HSET', P .. 'keys', unique_of(task, key), entry)
  end
  if not places then return '\147' .. pack(0, first, first_seq) end
  local parts = {}
  for at = 1, #jobs do parts[at] = places[at] or '\0' end
  return '\149' .. pack(5, first, first_seq) .. NIL .. list(parts)
end

-- {verb, name, part}: a part of many jobs, that `add` is to take; forgotten where it never comes.
verbs.stage = function(a)
  call('SET', P .. a[2], a[3], 'EX', 60)
  return TRUE
end
