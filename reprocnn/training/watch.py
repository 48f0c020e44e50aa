"""What ends a training early, and the clock of an epoch."""

import math
import os
import time

from reprocnn.backend import keras
from reprocnn.core.errors import UserError
from reprocnn.core.startup import orphaned


class Watch(keras.callbacks.Callback):
    """Stop the training with UserError when its loss is non-finite or the dvc that started it is gone.

    `ended` is when the epoch ended, validation included, and before any callback that comes after this one.
    """

    def __init__(self, stage: str, epoch: int, schedule: keras.optimizers.schedules.LearningRateSchedule) -> None:
        super().__init__()
        self.stage, self.epoch, self.schedule = stage, epoch, schedule
        self.ended = math.nan

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Check both."""
        if "DVC_STAGE" in os.environ and orphaned():
            raise UserError(f"{self.stage}: stopped, since the dvc that started it is gone; run `dvc repro` again")
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            lr = float(self.schedule(self.model.optimizer.iterations - 1))
            raise UserError(
                f"{self.stage}: the loss is {loss} in epoch {self.epoch + 1}, batch {batch + 1}, at learning rate "
                f"{lr:.3g}; no model is written; lower lr (try a tenth)"
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stop the clock."""
        self.ended = time.perf_counter()
