"""Inverters: step 2 backwards, from a sample to the vector that its sampler would draw it from."""
