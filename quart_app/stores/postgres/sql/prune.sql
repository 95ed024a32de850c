SELECT prune_ended($1::keep[], $2, $3);
