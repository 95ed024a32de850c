DELETE FROM leader WHERE worker = $1;
