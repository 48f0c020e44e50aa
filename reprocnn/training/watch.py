"""What ends a training early, the clock of an epoch, and the signs of progress."""

import json
import math
import os
import time
from pathlib import Path

from tqdm import tqdm

from reprocnn.backend import keras
from reprocnn.core.errors import UserError
from reprocnn.core.startup import orphaned


class Watch(keras.callbacks.Callback):
    """Stop the training with UserError when its loss is non-finite or the dvc that started it is gone.

    On a terminal, a bar shows the epoch's batches. `ended` is when the epoch ended, validation included, and before any
    callback that comes after this one.
    """

    def __init__(
        self, stage: str, epoch: int, epochs: int, steps: int, schedule: keras.optimizers.schedules.LearningRateSchedule
    ) -> None:
        super().__init__()
        self.stage, self.epoch, self.schedule = stage, epoch, schedule
        self.ended = math.nan
        self.bar = tqdm(
            total=steps, desc=f"{stage}: epoch {epoch + 1}/{epochs}", unit="batch", leave=False, disable=None
        )

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
        self.bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stop the clock, and clear the bar."""
        self.ended = time.perf_counter()
        self.bar.close()


def signal_step(step: int) -> None:
    """Touch the file by which DVC's extension for VS Code learns that an epoch has ended, while `dvc exp run` runs.

    It is the one of DVCLive: DVCLIVE_STEP_COMPLETED, in the repository that the experiment was started from.
    """
    folder = Path(os.environ.get("DVC_ROOT", "."), ".dvc/tmp/exps/run")
    if "DVC_STAGE" in os.environ and folder.is_dir():
        content = {"pid": os.getpid(), "step": step}
        (folder / "DVCLIVE_STEP_COMPLETED").write_text(json.dumps(content), encoding="utf-8")
