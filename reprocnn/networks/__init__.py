"""The networks by name, the whitening layer, and the fast layers for training on a CPU."""
