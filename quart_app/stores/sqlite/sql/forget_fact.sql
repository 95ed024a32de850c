DELETE FROM facts WHERE name = ?;
