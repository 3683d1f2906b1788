"""What the packages agree on: exit codes, the gate, the format of events, runtimes."""
