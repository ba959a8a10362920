"""Classifiers: pictures (B, 3, H, W) -> pooled features and class probabilities."""
