WITH asked (prefix) AS (SELECT ?)
SELECT name, value FROM facts, asked WHERE substr(name, 1, length(prefix)) = prefix ORDER BY name;
