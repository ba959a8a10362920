"""Outputs: what is done with finished pictures. `writer` saves them, `regenerate` makes one again, `inspect` looks."""
