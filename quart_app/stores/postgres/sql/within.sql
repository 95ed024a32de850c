-- On a connection whose search_path is another one: {namespace} is put in here.
SELECT * FROM {namespace}.start_within($1::{namespace}.new_start[], $2::{namespace}.new_job[], $3);
