"""Many trainings, on this machine or on a Ray cluster, each of which becomes a DVC experiment. See `command`."""
