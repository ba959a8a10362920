"""Trains samplers on low bands: the paper's BigGAN, and the small one that ships."""
