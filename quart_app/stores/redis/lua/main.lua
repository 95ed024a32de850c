-- Do what is asked, one after the other; what one is refused spoils nothing for the others.
-- The answer is [[answer, ...], [[which, why], ...] or nil].
local answers, wrong = {}, {}
for at, asked in ipairs(cmsgpack.unpack(ARGV[1])) do
  local before = seq
  local good, answer = pcall(verbs[asked[1]], asked)
  if not good then
    wrong[#wrong + 1] = {at, type(answer) == 'table' and answer.err or tostring(answer)}
    -- Numbers that nobody was told of are free again: a seq without an event is a gap to listeners.
    seq = seq and math.max(before or read_seq, told or 0)
    answer = NIL
  end
  answers[at] = answer
end
if seq ~= read_seq or order ~= read_order then
  -- Refused only where every write was refused, too: then nothing was numbered.
  pcall(call, 'MSET', P .. 'seq', text(seq), P .. 'order', text(order))
end
return '\146' .. list(answers) .. (#wrong > 0 and pack(wrong) or NIL)
