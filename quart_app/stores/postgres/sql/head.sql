SELECT seq FROM heads;
