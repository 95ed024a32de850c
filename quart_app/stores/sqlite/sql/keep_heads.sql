UPDATE heads SET place = ?, seq = ?;
