SELECT data FROM workers WHERE until > clock_timestamp() ORDER BY id;
