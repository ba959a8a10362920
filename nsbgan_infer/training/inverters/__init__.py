"""Training of inverters: `regression` learns from pictures that a frozen sampler draws."""
