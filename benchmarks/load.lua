-- For wrk: METHOD STATUS [BODY] after "--". Counts the answers that have another status.
local want, threads, wrong = 0, {}, 0

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  wrk.method = args[1]
  want = tonumber(args[2])
  bad = 0
  if args[3] then
    wrk.body = args[3]
    wrk.headers["Content-Type"] = "application/json"
  end
end

function response(status)
  if status ~= want then bad = bad + 1 end
end

function done(summary)
  for _, thread in ipairs(threads) do wrong = wrong + thread:get("bad") end
  local e = summary.errors
  io.write(string.format('\n{"requests":%d,"seconds":%.6f,"failed":%d}\n', summary.requests,
    summary.duration / 1e6, wrong + e.connect + e.read + e.write + e.timeout))
end
