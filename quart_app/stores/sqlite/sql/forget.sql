DELETE FROM jobs WHERE place = ?;
