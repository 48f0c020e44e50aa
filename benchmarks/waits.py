"""How long an epoch lasts, fed with arrays as Keras' guides do it, and with stages/lib/batches.py.

`python -m benchmarks.waits` trains the network of `mnist-fast` on the same 54,000 images in turn, eight epochs each way
after one that counts for none, and writes benchmarks/waits.csv: the seconds of the steps, and those of the epoch.
"""

import datetime
import time
from pathlib import Path
from typing import Any

from stages.lib import device  # isort: skip
import keras
import pandas as pd

from stages.lib import arrays, networks
from stages.lib.batches import batches
from stages.lib.errors import run
from stages.lib.files import whole

TABLE, DATA = Path("benchmarks/waits.csv"), Path("data/prepared/mnist")
EPOCHS, BATCH_SIZE = 8, 256


def main() -> None:
    used = device.set_up("cpu", 0)
    data = arrays.load(DATA, "train")
    keras.utils.set_random_seed(0)
    normalization = keras.layers.Rescaling(*arrays.load_normalization(DATA))
    model = networks.build(
        "mnist_cnn", data.x.shape[1:], 10, normalization, filters=12, depth=1, kernel_size=3, dropout=0.0
    )
    model.compile(keras.optimizers.AdamW(0.001), keras.losses.CategoricalCrossentropy(), jit_compile=False)
    ends: list[float] = []
    clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))
    fed: dict[str, Any] = {
        "arrays": lambda: model.fit(data.x, data.y, batch_size=BATCH_SIZE, shuffle=False, verbose=0, callbacks=[clock]),
        "batches.py": lambda: model.fit(
            batches((data.x, data.y), BATCH_SIZE), shuffle=False, verbose=0, callbacks=[clock]
        ),
    }
    rows = []
    for epoch in range(EPOCHS + 1):
        for name, fit in fed.items():
            ends.clear()
            start = time.perf_counter()
            fit()
            rows.append(
                {"fed": name, "epoch": epoch, "steps": ends[-1] - start, "whole": time.perf_counter() - start}
                | {"hardware": f"{used.name}, {used.threads} threads", "date": datetime.date.today().isoformat()}
            )
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    with whole(TABLE) as partial:
        table[table["epoch"] > 0].to_csv(partial, index=False, lineterminator="\n", float_format="%.4g")


if __name__ == "__main__":
    run(main)
