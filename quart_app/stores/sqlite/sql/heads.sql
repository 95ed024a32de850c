SELECT place, seq FROM heads;
