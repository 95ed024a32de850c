SELECT ifnull(max(number), 0), count(*), ifnull(sum(16 + length(text)), 0) FROM logs WHERE job = ?;
