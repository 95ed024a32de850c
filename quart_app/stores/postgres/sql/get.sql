SELECT place, seq, data FROM jobs WHERE id = $1;
