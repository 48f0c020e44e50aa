"""A trained network, measured: metrics, test-time augmentation, architecture, FLOPs, filters and feature maps."""
