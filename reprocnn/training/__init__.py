"""The training loop, its checkpoints, the optimizer and the schedules."""
