"""A training stage, watched: how long until its first step has ended, and how many test images are right after each
epoch.

`python -m benchmarks.watched train_mnist` in the place of `python -m stages.train_mnist`; the stage's bits and seconds
stay what they are, and runs/watched.json is written too.
"""

import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from stages.lib.errors import run
from stages.lib.files import write_json

FILE = Path("runs/watched.json")


def main() -> None:
    stage = import_module(f"stages.{sys.argv[1]}")
    from stages.lib import arrays, checkpoint, params, training, tta  # after the stage, which makes TensorFlow quiet

    name = sys.argv[1].removeprefix("train_")
    test = arrays.load(Path("data/prepared") / name, "test")
    batch_size = params.load(params.FILE)[name]["batch_size"]
    first: list[float] = []
    epochs: list[dict[str, Any]] = []
    save, step = checkpoint.save, training._Watch.on_train_batch_end

    def save_and_judge(place: Path, model: Any, rows: list[dict[str, Any]]) -> None:
        save(place, model, rows)
        right = tta.predict(model, test.x).argmax(axis=1) == test.y.argmax(axis=1)
        seconds = sum(row["seconds"] for row in rows)
        images = int(model.optimizer.iterations) * batch_size
        epochs.append({"epoch": len(rows), "images": images, "seconds": seconds, "test_accuracy": float(right.mean())})

    def note_and_step(self: Any, batch: int, logs: Any = None) -> None:
        if not first:
            first.append(time.time() - psutil.Process().create_time())
        step(self, batch, logs)

    checkpoint.save = save_and_judge
    training._Watch.on_train_batch_end = note_and_step  # type: ignore[method-assign]
    stage.main()
    write_json(FILE, {"first_step_seconds": first[0], "epochs": epochs})


if __name__ == "__main__":
    run(main)
