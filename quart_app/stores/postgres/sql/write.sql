SELECT * FROM write_group(
    $1::new_start[], $2::new_job[], $3::next_version[], $4::new_lines[], $5::new_step[],
    $6::new_fact[], $7, $8, $9
);
