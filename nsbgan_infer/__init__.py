"""nsbgan_infer."""
