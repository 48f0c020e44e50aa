"""MNIST against its peers, side by side in one run: seconds and test accuracy.

`python -m benchmarks.peers PYTHON`, PYTHON having PyTorch, in turn: three seeds of the exercise's network as written
with 20 epochs each, ten of a public one-epoch recipe in PyTorch, ten of the project's `mnist-fast`, five of its
`mnist`; that trains on 54,000 images, the others on all 60,000. Seconds are of training alone: no imports, no data
loading, no evaluation, but `mnist`'s of its validation images; Keras' tracing is in. Adds what benchmarks/peers.csv
lacks.
"""

import datetime
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import seeds
from stages.lib import arrays, device
from stages.lib.errors import UserError, run
from stages.lib.files import whole

TABLE, DATA = Path("benchmarks/peers.csv"), Path("data/prepared/mnist")
EXERCISE, PYTORCH, FAST, ACCURATE = "the exercise's network", "one-epoch recipe, PyTorch", "mnist-fast", "mnist"
SEEDS = {EXERCISE: 3, PYTORCH: 10, FAST: 10, ACCURATE: 5}


def main() -> None:
    if len(sys.argv) != 2:
        raise UserError("peers: expected a Python that has PyTorch; try `make bench-peers`")
    table = pd.read_csv(TABLE) if TABLE.exists() else pd.DataFrame({"side": [], "seed": []})
    known = set(table[["side", "seed"]].itertuples(index=False, name=None))
    trained_on = device.set_up("cpu", 0)
    for seed in range(max(SEEDS.values())):
        for side, n in SEEDS.items():
            if seed < n and (side, seed) not in known:
                rows = pd.DataFrame(train(side, seed, sys.argv[1]))
                rows.insert(0, "side", side)
                rows.insert(1, "seed", seed)
                rows["hardware"] = f"{trained_on.name}, {trained_on.threads} threads"
                rows["date"] = datetime.date.today().isoformat()
                print(rows.iloc[-1].to_dict(), flush=True)
                table = pd.concat([table, rows]) if len(table) else rows
                with whole(TABLE) as partial:
                    table.to_csv(partial, index=False, lineterminator="\n", float_format="%.6g")


def train(side: str, seed: int, python: str) -> list[dict[str, Any]]:
    """One row; for the exercise one per epoch, with the seconds so far."""
    if side == EXERCISE:
        return list(exercise(seed))
    if side in (FAST, ACCURATE):
        row = seeds.measure(side, seed)
        return [{"epoch": row["epochs"], "seconds": row["seconds"], "test_accuracy": row["test_accuracy"]}]
    command = [python, "-m", "benchmarks.pytorch_mnist", "recipe", str(seed)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [{"epoch": 1, **json.loads(done.stdout)}]


def exercise(seed: int) -> Iterator[dict[str, Any]]:
    """As written: raw pixels, from_logits=True on a softmax, batch 500, Adam; fed as the project's own (batches.py)."""
    import keras  # here, that its import comes after device's, which keeps TensorFlow quiet

    from stages.lib import networks
    from stages.lib.batches import batches

    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    splits = [arrays.load(DATA, part) for part in ("train", "val", "test")]
    x, y = (np.concatenate(parts) for parts in zip(*splits[:2], strict=True))
    model = networks.assignment(x.shape[1:], 10, keras.layers.Rescaling(1.0))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"], jit_compile=False)
    seconds = 0.0
    for epoch in range(1, 21):
        start = time.perf_counter()
        order = rng.permutation(len(x))
        model.fit(batches((x[order], y[order]), 500), shuffle=False, verbose=0)
        seconds += time.perf_counter() - start
        accuracy = model.evaluate(batches((splits[2].x, splits[2].y), 1000), verbose=0)[1]
        yield {"epoch": epoch, "seconds": seconds, "test_accuracy": accuracy}


if __name__ == "__main__":
    run(main)
