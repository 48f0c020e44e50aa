"""Run many DVC experiments, on this machine or on a Ray cluster. See `command`."""
