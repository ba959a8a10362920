"""What this machine can do, and what a pipeline costs on it."""
