"""Measure how long an epoch lasts when it is fed with arrays, as in Keras' guides, and by reprocnn/images/batches.py.

Train a small network on the same 54,000 images in turn, eight epochs each way after a warm-up epoch, and write
benchmarks/results/waits.csv: the seconds until the last step and until the end of the epoch.
"""

import time
from pathlib import Path
from typing import Any

from benchmarks.run import command, results
from reprocnn.backend import configure_device, keras, layers
from reprocnn.images import arrays
from reprocnn.images.batches import batches
from reprocnn.networks.build import build

TABLE, DATA = results.FOLDER / "waits.csv", Path("data/prepared/mnist")
EPOCHS, BATCH_SIZE = 8, 256


def main(arguments: list[str]) -> None:
    """Measure all and write the table."""
    command.parser("waits", __doc__).parse_args(arguments)
    device = configure_device("cpu", 0)
    data = arrays.load(DATA / "train")
    keras.utils.set_random_seed(0)
    normalization = layers.Rescaling(*arrays.load_normalization(DATA))
    model = build("mnist_cnn", data.x.shape[1:], 10, normalization, filters=12, depth=1, kernel_size=3, dropout=0.0)
    model.compile(keras.optimizers.AdamW(0.001), keras.losses.CategoricalCrossentropy(), jit_compile=False)
    ends: list[float] = []
    clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))
    fed: dict[str, Any] = {
        "arrays": lambda: model.fit(data.x, data.y, batch_size=BATCH_SIZE, shuffle=False, verbose=0, callbacks=[clock]),
        "batches.py": lambda: model.fit(
            batches((data.x, data.y), BATCH_SIZE), shuffle=False, verbose=0, callbacks=[clock]
        ),
    }
    rows: list[dict[str, Any]] = []
    for epoch in range(EPOCHS + 1):
        for name, fit in fed.items():
            ends.clear()
            start = time.perf_counter()
            fit()
            seconds = {"steps": ends[-1] - start, "whole": time.perf_counter() - start}
            rows.append({"fed": name, "epoch": epoch, **seconds, **results.conditions(results.processor(device))})
            print(rows[-1], flush=True)
    results.write(TABLE, [row for row in rows if row["epoch"] > 0], digits=4)
