SELECT j.place, j.seq, j.data FROM {source}
-- The filters and the cursor are put in here.
WHERE {filters} ORDER BY {place} DESC LIMIT {limit}
