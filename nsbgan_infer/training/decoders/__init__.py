"""Trains decoders: the L1 and the adversarial stage, and the UNets."""
