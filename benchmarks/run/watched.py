"""Train as the stage train_DATASET does, and measure on the way.

Record in runs/watched.json how many seconds after the start of the process the first step and each epoch ended, the
CPU seconds that the training took until then, and the test accuracy after each epoch, in the precision of the training.
The stage's results and seconds do not change.
"""

import itertools
import time
from pathlib import Path
from typing import Any

from benchmarks.run import command, results
from reprocnn.backend import configure_device, keras
from reprocnn.core import params
from reprocnn.core.files import read_json, write_json
from reprocnn.datasets import DATASETS
from reprocnn.evaluation import tta
from reprocnn.images import arrays
from reprocnn.training.loop import train


def main(arguments: list[str]) -> None:
    """Train on the data set that the command line names."""
    parser = command.parser("watched", __doc__)
    parser.add_argument("dataset", choices=[dataset.name for dataset in DATASETS])
    dataset = parser.parse_args(arguments).dataset
    run, recipe = params.read(params.Run), params.read(params.Recipe, dataset)
    device = configure_device(run.device, run.threads, run.precision, run.devices)
    watch = Watch(arrays.load(Path("data/prepared") / dataset / "test"), recipe.batch_size)
    train(dataset, recipe, run.lr * recipe.lr_factor, run.seed, device, callbacks=[watch])
    seconds = itertools.accumulate(read_json(Path("runs") / f"train_{dataset}.json")["epoch_seconds"])
    epochs = [epoch | {"seconds": so_far} for epoch, so_far in zip(watch.epochs, seconds, strict=True)]
    write_json(results.WATCHED, {"first_step_seconds": watch.first_step_seconds, "epochs": epochs})


class Watch(keras.callbacks.Callback):
    """Note when the first step ended, and predict the test images after each epoch."""

    def __init__(self, test: arrays.Split, batch_size: int) -> None:
        super().__init__()
        self.test, self.batch_size = test, batch_size
        self.first_step_seconds: float | None = None  # since the process started
        self.watching = 0.0  # CPU seconds spent in predicting
        self.epochs: list[dict[str, Any]] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Stop the clock of the first step."""
        if self.first_step_seconds is None:
            self.first_step_seconds = command.since_start()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stop the clock of the epoch, and measure the test accuracy."""
        now = time.process_time()
        process = {"process_seconds": command.since_start(), "cpu_seconds": now - self.watching}
        right = tta.predict(self.model, self.test.x).argmax(axis=1) == self.test.y.argmax(axis=1)
        images = int(self.model.optimizer.iterations) * self.batch_size
        self.epochs.append({"epoch": epoch + 1, "images": images, **process, "test_accuracy": float(right.mean())})
        self.watching += time.process_time() - now
