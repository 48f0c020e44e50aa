"""Prepared images: read from disk, augmented, cut into batches."""
