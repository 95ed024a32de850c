SELECT * FROM publish_new($1);
