"""Trainers of decoders and what only they need."""
