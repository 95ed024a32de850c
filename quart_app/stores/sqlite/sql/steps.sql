SELECT name, result, attempt, at FROM steps
WHERE job = (SELECT place FROM jobs WHERE id = ?) ORDER BY name;
