SELECT name, result FROM steps WHERE job = (SELECT place FROM jobs WHERE id = ?) ORDER BY name;
