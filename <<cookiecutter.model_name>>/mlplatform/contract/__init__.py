"""What the packages agree on: parameters, exit codes, results of jobs, the gate and its opponent, PSI, events."""
