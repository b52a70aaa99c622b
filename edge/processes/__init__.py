"""What each process wires together, and nothing else."""
